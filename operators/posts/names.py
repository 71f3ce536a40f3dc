"""From keys back to ids, as feeds spell them."""

from typing import Protocol

from operators.keys import Keys
from schemas.ids import Id


class Names(Protocol):
    """Whatever remembers the ids of posts and authors."""

    def of(self, keys: Keys) -> list[Id]:
        """Return the id of each key."""
