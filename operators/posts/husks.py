"""Husks: what is kept of a deleted post until it would have expired, so that whatever refers to it stays whole.

A husk says when the post came, what it answered and what it was about in four 16-bit numbers; none of its words.
"""

import re
from typing import Final

import msgspec

from models.content import content_terms
from operators.deleted_users import DeletedUsers
from operators.posts.columns import TERMS
from schemas.events import AuthorLabelled, PostCreated, PostDeleted, PostEvent
from schemas.ids import Id, key_of

# The language of husks; their topics are the numbers themselves. No language is called so.
HUSK: Final = "x-husk"
_NUMBER: Final = re.compile(r"[0-9]{1,5}")
TERM_MAX: Final = 2**16 - 1
# Who wrote the posts of a deleted user: the id that stands for none.
NOBODY: Final = 0
_AUTHORS: Final = ("reply_to_author", "repost_of_author", "quote_of_author")


def terms_of(text: str, topics: tuple[str, ...], language: str) -> tuple[int, ...]:
    """Return the content terms of a post, or those that a husk carries."""
    if language == HUSK and not text:
        numbers = [int(one) for one in topics[:TERMS] if _NUMBER.fullmatch(one)]
        return tuple(one for one in numbers if one <= TERM_MAX)
    return content_terms(text, topics, language)


def husk_of(event: PostCreated) -> PostCreated:
    """Return the husk of a post; that of a husk is the same."""
    if event.language == HUSK and not event.text:
        return event
    terms = content_terms(event.text, event.topics, event.language) if event.text or event.topics else ()
    topics = tuple(str(term) for term in terms if term)
    return msgspec.structs.replace(event, text="", language=HUSK, topics=topics)


def without_names(event: PostCreated, deleted: DeletedUsers) -> PostCreated:
    """Return a post of somebody else without the names of deleted users: what it answers had no known author then."""
    named = {name: None for name in _AUTHORS if _names(getattr(event, name), deleted)}
    return msgspec.structs.replace(event, **named) if named else event


def is_of(event: PostEvent, deleted: DeletedUsers) -> bool:
    """Return whether a post event is that of a deleted user."""
    return _names(event.author, deleted)


def stored(event: PostEvent, deleted: DeletedUsers) -> list[PostEvent]:
    """Return what is kept of a post event once its author, or somebody whom it names, was deleted."""
    if not is_of(event, deleted):
        return [without_names(event, deleted) if isinstance(event, PostCreated) else event]
    if isinstance(event, AuthorLabelled):
        return []
    nameless: PostEvent = msgspec.structs.replace(event, author=NOBODY)
    if not isinstance(event, PostCreated):
        return [nameless]
    husk = husk_of(without_names(msgspec.structs.replace(event, author=NOBODY), deleted))
    return [husk, PostDeleted(event.at, event.post, NOBODY)]


def _names(identity: Id | None, deleted: DeletedUsers) -> bool:
    return identity is not None and key_of(identity) in deleted
