"""Cursors: where a feed goes on. Opaque to clients, 50 characters however deep, good for one viewer and feed.

A session begins with a request that has no cursor. Its feed says with which cursor the next page is asked for; that one
says the next, and so on. What a session has shown is kept with the viewer (operators/viewers/sessions.py), the cursor
only names it.

A cursor is signed with a key that all instances of a job have to share, the environment variable FORYOU_CURSOR_KEY.
Without one a key stands in that everybody can read here: it guards against accidents, not against who means to forge.
What a forged cursor could do is little: it names a session of the viewer's own.
"""

import base64
import binascii
import hashlib
import hmac
import os
import struct
from dataclasses import dataclass, replace
from typing import Final, get_args

import xxhash

from schemas.events import FeedName
from schemas.ids import Id

KEY_VARIABLE: Final = "FORYOU_CURSOR_KEY"
_STAND_IN: Final = "for you, stream: this key guards against accidents only"
_VERSION: Final = 2
_FORM: Final = struct.Struct(">BQI8s")  # version, session, page, whose it is and of which feed
_SIGNATURE_BYTES: Final = 16
_OWNER_BYTES: Final = 8
_BYTES: Final = _FORM.size + _SIGNATURE_BYTES
_PAGE_MAX: Final = 2**32 - 1


class CursorRefused(ValueError):
    """A cursor that can't be used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A page of a session; the first, which has no cursor, is page 1."""

    session: int
    page: int

    @property
    def next(self) -> "Cursor":
        """The page behind this one."""
        return replace(self, page=min(self.page + 1, _PAGE_MAX))


def session_of(viewer: int, request: Id, at_ms: int) -> int:
    """Return the session that a request without a cursor begins, 64 bits: the same however often it is read."""
    return xxhash.xxh3_64_intdigest(f"{viewer} {at_ms} {request!r}".encode())


def issue(cursor: Cursor, viewer: int, feed: FeedName) -> str:
    """Return the text of a cursor for a viewer, by key, and a kind of feed: base64url."""
    plain = _FORM.pack(_VERSION, cursor.session, cursor.page, _owner(viewer, feed))
    return base64.urlsafe_b64encode(plain + _signature(plain)).rstrip(b"=").decode()


def read(text: str, viewer: int, feed: FeedName) -> Cursor:
    """Return the cursor of a text that a viewer sent for a kind of feed. Raises CursorRefused."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise CursorRefused("this is no cursor; ask without one for a new feed") from None
    if len(raw) != _BYTES:
        raise CursorRefused(f"a cursor of {len(raw)} bytes, and all have {_BYTES}: it was cut or is none")
    plain, signature = raw[: _FORM.size], raw[_FORM.size :]
    if not hmac.compare_digest(signature, _signature(plain)):
        raise CursorRefused("the cursor was changed, or signed with another key; ask without one for a new feed")
    version, session, page, owner = _FORM.unpack(plain)
    if version != _VERSION:
        raise CursorRefused(f"a cursor of version {version}, and this job reads {_VERSION}; ask without one")
    if not hmac.compare_digest(owner, _owner(viewer, feed)):
        of_feed = [name for name in get_args(FeedName) if hmac.compare_digest(owner, _owner(viewer, name))]
        if of_feed:
            raise CursorRefused(f"the cursor is of the feed {of_feed[0]}, and {feed} is asked for; ask without one")
        raise CursorRefused("the cursor is another viewer's")
    return Cursor(session, page)


def _signature(plain: bytes) -> bytes:
    return _keyed(plain, b"cursor", _SIGNATURE_BYTES)


def _owner(viewer: int, feed: FeedName) -> bytes:
    return _keyed(viewer.to_bytes(8, "big") + feed.encode(), b"viewer", _OWNER_BYTES)


def _keyed(data: bytes, what_for: bytes, size: int) -> bytes:
    key = hashlib.blake2b((os.environ.get(KEY_VARIABLE) or _STAND_IN).encode()).digest()
    return hashlib.blake2b(data, digest_size=size, key=key, person=what_for).digest()
