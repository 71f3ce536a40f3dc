"""A store keeps whole commits through kill -9, has one owner, and says what is wrong in one sentence."""

import errno
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.stores import PartitionStore, StoreRefused

KEYS = st.integers(0, 2**64 - 1)
ROOT = Path(__file__).parent.parent.parent

# Commit n writes n into 40 records of its own choice and into meta; it says n before and after each commit.
WRITER = """
import random, sys, struct
from pathlib import Path
from infra.stores import PartitionStore
store = PartitionStore.open(Path(sys.argv[1]), 1)
n = struct.unpack("<Q", store.meta)[0] if store.meta else 0
while True:
    n += 1
    keys = random.Random(n).sample(range(200), 40)
    store.commit([(key, struct.pack("<Q", n) * (1 + key * 3)) for key in keys[4:]], keys[:4], struct.pack("<Q", n))
    print(n, flush=True)
"""
HOLDER = """
import sys
from pathlib import Path
from infra.stores import PartitionStore
store = PartitionStore.open(Path(sys.argv[1]), 1, read_only=sys.argv[2] == "read")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PartitionStore]:
    store = PartitionStore.open(tmp_path / "store", 1)
    yield store
    store.close()


def child(code: str, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def after(commits: int) -> dict[int, bytes]:
    """Return what WRITER's store holds after so many commits."""
    records: dict[int, bytes] = {}
    for n in range(1, commits + 1):
        keys = random.Random(n).sample(range(200), 40)
        for key in keys[:4]:
            records.pop(key, None)
        records |= {key: struct.pack("<Q", n) * (1 + key * 3) for key in keys[4:]}
    return records


def test_every_commit_is_whole_or_absent_after_kill_9(tmp_path: Path) -> None:
    last = 0
    for kill in range(10):
        with child(WRITER, tmp_path / "store") as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(3 + 7 * kill)]
            process.send_signal(signal.SIGKILL)
            said += process.stdout.readlines()
        store = PartitionStore.open(tmp_path / "store", 1)
        (applied,) = struct.unpack("<Q", store.meta)
        promised = int([line for line in said if line.endswith("\n")][-1])
        assert promised > last
        assert promised <= applied <= promised + 1
        assert dict(store.items()) == after(applied)
        store.close()
        last = applied


def test_a_second_owner_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    with child(HOLDER, tmp_path / "store", "own") as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StoreRefused, match=rf"store is in use by process {process.pid}: stop that job first"):
            PartitionStore.open(tmp_path / "store", 1)
        process.send_signal(signal.SIGKILL)
    PartitionStore.open(tmp_path / "store", 1).close()


def test_a_second_owner_in_the_same_process_is_refused(store: PartitionStore) -> None:
    with pytest.raises(StoreRefused, match=f"in use by process {os.getpid()}"):
        PartitionStore.open(store.folder, 1)
    with pytest.raises(StoreRefused, match="open in this process already"):
        PartitionStore.open(store.folder, 1, read_only=True)
    store.commit([(1, b"one")], (), b"")
    assert store.get(1) == b"one"


def test_a_reader_stands_beside_an_owner(store: PartitionStore) -> None:
    reader = f"""
import sys
from pathlib import Path
from infra.stores import PartitionStore, StoreRefused
store = PartitionStore.open(Path({str(store.folder)!r}), 1, read_only=True)
print(store.meta, dict(store.items()), flush=True)
sys.stdin.readline()
print(store.get(2), flush=True)
try:
    store.commit((), (), b"")
except StoreRefused as error:
    print(error)
"""
    store.commit([(1, b"one")], (), b"first")
    with child(reader) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "b'first' {1: b'one'}\n"
        store.commit([(2, b"two")], (), b"second")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "b'two'\n"
        assert "open for reading only" in process.stdout.readline()


def test_a_killed_reader_does_not_keep_pages_from_use(store: PartitionStore) -> None:
    records = [(key, bytes(1000)) for key in range(200)]
    store.commit(records, (), b"")
    holding = HOLDER.replace('print("open', 'items = store.items(); next(items); print("open')
    with child(holding, store.folder, "read") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    store.commit(records, (), b"")
    size = store.size_bytes()
    for _ in range(20):
        store.commit(records, (), b"")
    assert store.size_bytes() < 3 * size


def test_another_format_is_refused(tmp_path: Path) -> None:
    PartitionStore.open(tmp_path, 1).close()
    for read_only in (False, True):
        with pytest.raises(StoreRefused, match=r"has format 1 and this version reads format 2: open it with"):
            PartitionStore.open(tmp_path, 2, read_only)
    PartitionStore.open(tmp_path, 1).close()  # the refused ones left it free


def _file(folder: Path) -> None:
    folder.write_bytes(b"")


def _others(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_bytes(b"")


def _noise(folder: Path) -> None:
    folder.mkdir()
    (folder / "data.mdb").write_bytes(bytes(range(256)) * 100)


def _cut(folder: Path) -> None:
    store = PartitionStore.open(folder, 1)
    store.commit([(key, bytes(4000)) for key in range(3000)], (), b"")
    store.close()
    os.truncate(folder / "data.mdb", 100_000)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_file, "is a file"),
        (_others, "holds notes.txt and no store"),
        (_noise, "is not a store"),
        (_cut, "is cut short"),
    ],
)
def test_what_is_no_store_is_refused(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    make(tmp_path / "it")
    with pytest.raises(StoreRefused, match=reason):
        PartitionStore.open(tmp_path / "it", 1)


def test_reading_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="holds no store: name the folder of one"):
        PartitionStore.open(tmp_path / "none", 1, read_only=True)
    assert not (tmp_path / "none").exists()


def test_items_come_in_the_order_of_numbers(store: PartitionStore) -> None:
    keys = [2**64 - 1, 0, 256, 255, 2**63, 1, 2**32]
    store.commit([(key, str(key).encode()) for key in keys], (), b"")
    assert list(store.items()) == [(key, str(key).encode()) for key in sorted(keys)]


def test_deletes_come_after_puts_and_may_name_what_is_not_there(store: PartitionStore) -> None:
    store.commit([(1, b"a"), (2, b"b")], [2, 3], b"m")
    assert (store.get_many([3, 1, 2]), len(store), store.meta) == ([None, b"a", None], 1, b"m")


def test_a_failing_iterable_leaves_nothing_behind(store: PartitionStore) -> None:
    def puts() -> Iterator[tuple[int, bytes]]:
        yield 1, b"one"
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        store.commit(puts(), (), b"meta")
    assert (store.get(1), store.meta, len(store)) == (None, b"", 0)


def test_reads_see_the_last_commit_while_another_runs(store: PartitionStore) -> None:
    store.commit([(1, b"old")], (), b"old")
    half, go_on = threading.Event(), threading.Event()

    def puts() -> Iterator[tuple[int, bytes]]:
        yield 1, b"new"
        half.set()
        assert go_on.wait(10)
        yield 2, b"new"

    thread = threading.Thread(target=store.commit, args=(puts(), (), b"new"))
    thread.start()
    assert half.wait(10)
    assert (store.get_many([1, 2]), store.meta, list(store.items())) == ([b"old", None], b"old", [(1, b"old")])
    go_on.set()
    thread.join()
    assert (store.get_many([1, 2]), store.meta) == ([b"new", b"new"], b"new")


def test_reads_are_of_one_commit_under_a_stream_of_commits(store: PartitionStore) -> None:
    store.commit([(key, bytes(8)) for key in range(50)], (), b"")

    def commits() -> None:
        for n in range(1, 100):
            store.commit([(key, struct.pack("<Q", n)) for key in range(50)], (), b"")

    thread = threading.Thread(target=commits)
    thread.start()
    seen = set()
    while thread.is_alive():
        found = set(store.get_many(range(50)))
        assert len(found) == 1
        seen |= found
    thread.join()
    assert len(seen) > 1


COMMITS = st.lists(
    st.tuples(
        st.dictionaries(KEYS | st.integers(0, 20), st.binary(max_size=5000), max_size=20),
        st.lists(KEYS | st.integers(0, 20), max_size=10),
        st.binary(max_size=600),
        st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(COMMITS)
def test_a_store_is_a_sorted_dict_that_survives(
    tmp_path_factory: pytest.TempPathFactory, commits: list[tuple[dict[int, bytes], list[int], bytes, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = PartitionStore.open(folder, 1)
    model: dict[int, bytes] = {}
    for puts, deletes, meta, reopen in commits:
        store.commit(puts.items(), deletes, meta)
        model |= puts
        for key in deletes:
            model.pop(key, None)
        if reopen:
            store.close()
            store = PartitionStore.open(folder, 1)
        assert list(store.items()) == sorted(model.items())
        assert (len(store), store.meta) == (len(model), meta)
        asked = [*puts, *deletes, 7]
        assert store.get_many(asked) == [model.get(key) for key in asked] == [store.get(key) for key in asked]
    store.close()


def test_a_full_disk_is_an_error_and_the_last_commit_stays(tmp_path: Path) -> None:
    code = """
import json, resource, signal, sys
from pathlib import Path
from infra.stores import PartitionStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = PartitionStore.open(Path(sys.argv[1]), 1)
store.commit([(key, b"old" * 300) for key in range(300)], (), b"old")
limit = (Path(sys.argv[1]) / "data.mdb").stat().st_size
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
new = [(key, b"new" * 300) for key in range(300)]
try:
    store.commit(new, (), b"new")
except OSError as error:
    whole = all(record == b"old" * 300 for _, record in store.items())
    print(json.dumps([error.errno, error.filename, store.meta.decode(), whole, len(store)]), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.commit(new, (), b"new")
"""
    folder = tmp_path / "store"
    with child(code, folder) as process:
        assert process.stdout is not None
        failed = json.loads(process.stdout.readline())
    assert process.returncode == 0
    assert failed == [errno.EFBIG, str(folder), "old", True, 300]
    store = PartitionStore.open(folder, 1)
    assert (store.meta, set(dict(store.items()).values())) == (b"new", {b"new" * 300})
    store.close()


def test_a_disk_full_at_opening_is_refused(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from infra.stores import PartitionStore, StoreRefused
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    PartitionStore.open(Path(sys.argv[1]), 1)
except StoreRefused as error:
    print(error)
"""
    with child(code, tmp_path / "store") as process:
        said, _ = process.communicate()
    assert "has no room for a store: free some on its disk" in said
    PartitionStore.open(tmp_path / "store", 1).close()


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    store = PartitionStore.open(tmp_path, 1)
    store.close()
    store.close()
    PartitionStore.open(tmp_path, 1).close()


def test_a_store_at_its_limit_says_so_and_keeps_its_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.stores.partition.STORE_BYTES_MAX", 1 << 20)
    store = PartitionStore.open(tmp_path, 1)
    store.commit([(1, b"one")], (), b"one")
    with pytest.raises(StoreRefused, match="the most a store holds: use more partitions"):
        store.commit([(key, bytes(1000)) for key in range(2000)], (), b"many")
    assert (list(store.items()), store.meta) == ([(1, b"one")], b"one")
    store.commit((), [1], b"none")
    assert (len(store), store.meta) == (0, b"none")
    store.close()
