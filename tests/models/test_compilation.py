"""Compiled shapes on disk: shared by processes that start and are killed at any time."""

import threading
from pathlib import Path

import pytest
from jax._src.lru_cache import LRUCache

SHAPE = bytes(range(256)) * 200_000


@pytest.fixture
def cache(tmp_path: Path) -> LRUCache:
    """Return a cache as JAX makes it; conftest.py has called `use_cache`."""
    return LRUCache(str(tmp_path), max_size=-1)


def test_a_reader_sees_a_whole_entry_or_none(cache: LRUCache) -> None:
    seen: list[bytes | None] = []

    def read() -> None:
        while not seen or seen[-1] != SHAPE:
            seen.append(cache.get("shape"))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    cache.put("shape", SHAPE)
    reader.join(timeout=60)
    assert seen[-1] == SHAPE
    assert set(seen) <= {None, SHAPE}


def test_a_writer_that_ends_halfway_leaves_no_entry(cache: LRUCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: bytes) -> int:
        path.touch()
        raise OSError("no space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="no space"):
            cache.put("shape", SHAPE)
    assert cache.get("shape") is None
    cache.put("shape", SHAPE)
    assert cache.get("shape") == SHAPE
    assert [path.name for path in Path(cache.path).iterdir()] == ["shape-cache"]
