"""From keys back to ids, as feeds spell them."""

from typing import Protocol

from schemas.ids import Id


class Names(Protocol):
    """Whatever remembers how the ids of live posts and their authors are spelled: the table of posts."""

    def original_id(self, key: int) -> Id | None:
        """Return the id of a post or author; None for text of neither a live post nor its author."""
