"""A viewer's relations: follows, blocks, mutes, keywords, subscriptions, and who follows or blocks the viewer."""

from dataclasses import dataclass, field, replace
from typing import Any

from operators.keys import Keys, no_keys, with_key, without_key
from operators.text import Tokens, token_hashes
from schemas.events import Block, Follow, Mute, MuteKeyword, Profile, Subscribe
from schemas.ids import key_of


@dataclass(frozen=True, slots=True)
class Relations:
    """Sorted sets of author keys, and facts of the account."""

    followed: Keys = field(default_factory=no_keys)
    followed_by: Keys = field(default_factory=no_keys)
    blocked: Keys = field(default_factory=no_keys)
    blocked_by: Keys = field(default_factory=no_keys)
    muted: Keys = field(default_factory=no_keys)
    subscribed: Keys = field(default_factory=no_keys)
    keywords: dict[str, Tokens] = field(default_factory=dict)
    account_created_ms: int | None = None
    followers: int = 0
    country: str = ""
    settings: tuple[str, ...] = ()

    def after(self, event: Follow | Block | Mute | MuteKeyword | Subscribe | Profile) -> "Relations":
        """Return the relations after a change that this viewer made."""
        if isinstance(event, Profile):
            return replace(
                self,
                account_created_ms=event.account_created_at,
                followers=event.followers,
                country=event.country,
                settings=tuple(sorted(set(event.settings))),
            )
        if isinstance(event, MuteKeyword):
            others = {word: tokens for word, tokens in self.keywords.items() if word != event.keyword}
            if not event.undo:
                others[event.keyword] = token_hashes(event.keyword)
            return replace(self, keywords=others)
        return self._changed(_OWN[type(event)], key_of(event.author), event.undo)

    def after_other(self, event: Follow | Block) -> "Relations":
        """Return the relations after a change that somebody else made about this viewer."""
        name = "followed_by" if isinstance(event, Follow) else "blocked_by"
        return self._changed(name, key_of(event.viewer), event.undo)

    def _changed(self, name: str, key: int, undo: bool) -> "Relations":
        change = without_key if undo else with_key
        changed: dict[str, Any] = {name: change(getattr(self, name), key)}
        return replace(self, **changed)


_OWN = {Follow: "followed", Block: "blocked", Mute: "muted", Subscribe: "subscribed"}
NO_RELATIONS = Relations()
