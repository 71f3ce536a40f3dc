"""A viewer's relations: follows, blocks, mutes, keywords, subscriptions, and who follows or blocks the viewer."""

from dataclasses import dataclass, field

from operators.keys import Keys, no_keys, with_key, without_key
from operators.text import Tokens, token_hashes
from schemas.events import Block, Follow, Mute, MuteKeyword, Profile, Subscribe
from schemas.ids import key_of


@dataclass(slots=True)
class Relations:
    """Sorted sets of author keys, and facts of the account; values are replaced, never changed in place."""

    followed: Keys = field(default_factory=no_keys)
    followed_by: Keys = field(default_factory=no_keys)
    blocked: Keys = field(default_factory=no_keys)
    blocked_by: Keys = field(default_factory=no_keys)
    muted: Keys = field(default_factory=no_keys)
    subscribed: Keys = field(default_factory=no_keys)
    keywords: dict[str, Tokens] = field(default_factory=dict)
    account_created_ms: int | None = None
    followers: int = 0

    def apply(self, event: Follow | Block | Mute | MuteKeyword | Subscribe | Profile) -> None:
        """Take a change that this viewer made."""
        if isinstance(event, Profile):
            self.account_created_ms = event.account_created_at
            self.followers = event.followers
        elif isinstance(event, MuteKeyword):
            others = {word: tokens for word, tokens in self.keywords.items() if word != event.keyword}
            self.keywords = others if event.undo else others | {event.keyword: token_hashes(event.keyword)}
        else:
            name = _OWN[type(event)]
            change = without_key if event.undo else with_key
            setattr(self, name, change(getattr(self, name), key_of(event.author)))

    def apply_from_other(self, event: Follow | Block) -> None:
        """Take a change that somebody else made about this viewer."""
        name = "followed_by" if isinstance(event, Follow) else "blocked_by"
        change = without_key if event.undo else with_key
        setattr(self, name, change(getattr(self, name), key_of(event.viewer)))


_OWN = {Follow: "followed", Block: "blocked", Mute: "muted", Subscribe: "subscribed"}
NO_RELATIONS = Relations()
