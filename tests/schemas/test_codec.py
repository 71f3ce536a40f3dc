"""What the boundary refuses, with the field and the reason."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Refused, decode, decode_batch, encode
from schemas.events import Engagement, Follow
from schemas.ids import ID_INT_MAX, STRING_KEY_BIT, key_of, partition_of

NOW = 1_770_000_000_000
GOOD = Engagement(at=NOW, viewer=1, post=2, action="favorite")


def changed(**fields: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(encode(GOOD)), **fields})


@pytest.mark.parametrize(
    ("line", "path", "reason"),
    [
        (encode(GOOD)[:-5], "$", "not JSON: Input data was truncated"),
        (b"\xff\xfe", "$", "not JSON"),
        (b"[" * 100_000, "$", ""),
        (b"[]", "$", "Expected `object`, got `array`"),
        (changed(kind="liked"), "$.kind", "Invalid value 'liked'"),
        (changed(action="like"), "$.action", "Invalid enum value 'like'"),
        (changed(post=None), "$.post", "Expected `int | str`, got `null`"),
        (changed(post=1.5), "$.post", "Expected `int | str`, got `float`"),
        (changed(at=-1), "$.at", "Expected `int` >= 0"),
        (changed(at=NOW + 1), "$.at", "lies in the future"),
        (changed(viewer="x" * 65), "$.viewer", "Expected `str` of length <= 64"),
        (changed(viewer="é" * 33), "$.viewer", "id of 66 bytes"),
        (changed(viewer=2**63), "$.viewer", "Expected `int` <="),
        (changed(viewer=-1), "$.viewer", "Expected `int` >= 0"),
        (changed(dwell_s=-1), "$.dwell_s", "Expected `float` >= 0.0"),
        (changed(surface=16), "$.surface", "Expected `int` <= 15"),
        (b'{"kind":"follow","at":1,"viewer":1}', "$", "missing required field `author`"),
        (b'{"kind":"post_created","at":1,"post":1,"author":1,"text":"' + b"x" * 100_000 + b'"}', "$.text", "<= 25000"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refusals(line: bytes, path: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        decode(line, at_max=NOW)
    assert caught.value.path == path
    assert reason in caught.value.reason
    good, bad, again = decode_batch([encode(GOOD), line, encode(GOOD)], at_max=NOW)
    assert good == again == GOOD
    assert isinstance(bad, Refused)
    assert (bad.path, bad.reason) == (path, caught.value.reason)


ids = st.integers(0, ID_INT_MAX) | st.text(min_size=1, max_size=64).filter(lambda text: len(text.encode()) <= 64)


@given(ids, ids)
def test_ids_survive_a_round_trip_and_keep_their_key(viewer: int | str, author: int | str) -> None:
    event = decode(encode(Follow(at=1, viewer=viewer, author=author)))
    assert event == Follow(at=1, viewer=viewer, author=author)
    assert type(event.viewer) is type(viewer)
    assert 0 <= key_of(viewer) < 2**64
    assert (key_of(viewer) >= STRING_KEY_BIT) == isinstance(viewer, str)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_get_past_as_anything_but_refused(line: bytes) -> None:
    (out,) = decode_batch([line], at_max=NOW)
    assert isinstance(out, Refused)


def test_partitions_spread_consecutive_ids() -> None:
    counts = [0] * 16
    for key in range(16_000):
        counts[partition_of(key, 16)] += 1
    assert min(counts) > 800
