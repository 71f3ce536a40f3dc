"""Sessions: what the pages of a feed have shown, kept with the viewer until nobody asks for more.

Posts are kept by their originals, so that a post and its reposts are one. A viewer without a session keeps nothing.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec import Struct

from operators.keys import Keys


class Session(Struct, array_like=True, frozen=True):
    """A session: its number, the time of its latest page, and the sorted keys of what it showed, little-endian."""

    session: int
    at_ms: int
    shown: bytes

    @property
    def keys(self) -> Keys:
        """The keys of what it showed, sorted."""
        return np.frombuffer(self.shown, np.uint64)


# Of one viewer, the one used longest ago first.
Sessions = tuple[Session, ...]
NO_SESSIONS: Final[Sessions] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session waits for its next page, in seconds, and how many of a viewer are kept."""

    ttl_s: int
    sessions_max: int


def find(sessions: Sessions, session: int, at_ms: int, limits: Limits) -> Session | None:
    """Return a session that still waits for a page at a time; None where it does not, or is not known."""
    found = next((one for one in sessions if one.session == session), None)
    return found if found is not None and at_ms - found.at_ms <= limits.ttl_s * 1000 else None


def after_page(sessions: Sessions, session: int, at_ms: int, shown: Keys, limits: Limits) -> Sessions:
    """Return the sessions after one has shown more; those nobody can ask for any more are forgotten.

    To add the same twice changes nothing: after a restart a feed may be read again.
    """
    before = next((one for one in sessions if one.session == session), Session(session, at_ms, b""))
    after = Session(session, max(at_ms, before.at_ms), np.union1d(before.keys, shown).tobytes())
    others = tuple(one for one in sessions if one.session != session and at_ms - one.at_ms <= limits.ttl_s * 1000)
    return (*others, after)[-limits.sessions_max :]
