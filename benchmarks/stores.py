"""Durable stores for viewers: LMDB, RocksDB and SQLite on the job's own workload, commits beside cold reads.

`python -m benchmarks.stores [--quick] [folder]`: 16 stores with a million viewers (quick: 200,000) of 200 B to 4.4 kB,
in a folder on the disk in question (default: the system's temporary one, where 3 GB must be free). Every half second
a thread commits 2,500 records, atomic and synced in each store, while the main thread reads 5,000 viewers a second as
the event loop would. Then the process is killed with -9 in a commit, the stores are opened again, and some viewers are
read after the system was asked to forget the files.
RocksDB is no dependency of the project: `pip install rocksdict` first, or its row is left out.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from flows.terminal import console, rows_table
from infra.stores import PartitionStore

STORES: Final = 16
EPOCH_S: Final = 0.5
CHANGED_PER_EPOCH: Final = 2_500
GETS_PER_TICK: Final = 5
TICK_S: Final = 0.001  # 5,000 reads a second, in ticks as an event loop has them
RECORD_BYTES: Final = (200, 4_400)
TYPICAL_BYTES: Final = 1_000
FILL_PER_COMMIT: Final = 1_000
META: Final = bytes(200)
UNCACHED_GETS: Final = 1_000
WARM_EPOCHS: Final = 2
MEMORY_BYTES: Final = 256 << 20  # what RocksDB and SQLite may cache in all; LMDB has no cache but the system's

Records = list[tuple[int, bytes]]


class Store(Protocol):
    """What is asked of a store here; PartitionStore is one."""

    def get(self, key: int) -> bytes | None:
        """Return a record."""

    def commit(self, puts: Iterable[tuple[int, bytes]], deletes: Iterable[int], meta: bytes) -> None:
        """Write records and meta at once, durable at return."""


class RocksStore:
    """RocksDB: a log synced at each commit, 10 bits of Bloom filter a key, memory shared out over the stores."""

    def __init__(self, folder: Path) -> None:
        import rocksdict as rocks

        options = rocks.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(MEMORY_BYTES // STORES // 4)
        options.set_compression_type(rocks.DBCompressionType.lz4())
        options.set_max_background_jobs(2)
        table = rocks.BlockBasedOptions()
        table.set_block_cache(rocks.Cache(MEMORY_BYTES // STORES // 2))
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        self._rocks = rocks
        self._rows = rocks.Rdict(str(folder), options)
        self._synced = rocks.WriteOptions()
        self._synced.sync = True

    def get(self, key: int) -> bytes | None:
        """Return a record."""
        found: bytes | None = self._rows.get(key.to_bytes(8))
        return found

    def commit(self, puts: Iterable[tuple[int, bytes]], deletes: Iterable[int], meta: bytes) -> None:
        """Write one batch through the synced log."""
        batch = self._rocks.WriteBatch(raw_mode=True)
        for key, record in puts:
            batch.put(key.to_bytes(8), record)
        for key in deletes:
            batch.delete(key.to_bytes(8))
        batch.put(b"meta", meta)
        self._rows.write(batch, self._synced)


class SqliteStore:
    """SQLite: write-ahead log synced at each commit, one connection to write and one to read."""

    def __init__(self, folder: Path) -> None:
        self._writing, self._reading = (self._connect(folder) for _ in range(2))
        self._writing.execute("create table if not exists records (key integer primary key, record blob)")
        self._writing.execute("create table if not exists about (name text primary key, value blob)")

    @staticmethod
    def _connect(folder: Path) -> sqlite3.Connection:
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / "store.db", isolation_level=None, check_same_thread=False)
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        connection.execute(f"pragma cache_size=-{MEMORY_BYTES // STORES // 2 // 1024}")
        return connection

    def get(self, key: int) -> bytes | None:
        """Return a record."""
        row = self._reading.execute("select record from records where key = ?", (_signed(key),)).fetchone()
        return None if row is None else bytes(row[0])

    def commit(self, puts: Iterable[tuple[int, bytes]], deletes: Iterable[int], meta: bytes) -> None:
        """Write one transaction."""
        self._writing.execute("begin immediate")
        rows = ((_signed(key), record) for key, record in puts)
        self._writing.executemany("insert or replace into records values (?, ?)", rows)
        self._writing.executemany("delete from records where key = ?", ((_signed(key),) for key in deletes))
        self._writing.execute("insert or replace into about values ('meta', ?)", (meta,))
        self._writing.execute("commit")


def _signed(key: int) -> int:
    """Return an unsigned key as SQLite's signed integer, in the same order."""
    return key - (1 << 63)


def _open_lmdb(folder: Path) -> Store:
    return PartitionStore.open(folder, format_version=1)


ENGINES: Final[dict[str, Callable[[Path], Store]]] = {"lmdb": _open_lmdb, "rocksdb": RocksStore, "sqlite": SqliteStore}


class Load:
    """The viewers' keys by store and a pool of records: half of each random bytes, half one byte over and over."""

    def __init__(self, viewers: int) -> None:
        rng = np.random.default_rng(0)
        self.keys: list[list[int]] = rng.integers(0, 1 << 64, (STORES, viewers // STORES), np.uint64).tolist()
        sizes = np.clip(rng.lognormal(np.log(TYPICAL_BYTES), 0.6, 1024), *RECORD_BYTES).astype(int).tolist()
        self.pool = [rng.bytes(size // 2) + bytes(size - size // 2) for size in sizes]
        self.rng = rng

    def epoch(self) -> list[Records]:
        """Return each store's changed records of one epoch."""
        count = CHANGED_PER_EPOCH // STORES
        places = self.rng.integers(0, len(self.keys[0]), (STORES, count)).tolist()
        records = self.rng.integers(0, len(self.pool), (STORES, count)).tolist()
        return [
            [(keys[place], self.pool[record]) for place, record in zip(*both, strict=True)]
            for keys, *both in zip(self.keys, places, records, strict=True)
        ]


def _fill(stores: list[Store], load: Load) -> None:
    for number, (store, keys) in enumerate(zip(stores, load.keys, strict=True)):
        for start in range(0, len(keys), FILL_PER_COMMIT):
            some = keys[start : start + FILL_PER_COMMIT]
            store.commit([(key, load.pool[(key + number) % len(load.pool)]) for key in some], (), META)


class _Commits(threading.Thread):
    """Commits an epoch every EPOCH_S, and measures: wall time of an epoch, CPU of this thread, bytes given."""

    def __init__(self, stores: list[Store], load: Load, epochs: int) -> None:
        super().__init__()
        self._stores, self._load, self._epochs = stores, load, epochs
        self.running = False  # whether a commit is going on
        self.took_s: list[float] = []
        self.cpu_s = 0.0
        self.records = self.bytes = 0

    def run(self) -> None:
        due = time.perf_counter()
        for _ in range(self._epochs):
            changed = self._load.epoch()
            due += EPOCH_S
            time.sleep(max(0, due - time.perf_counter()))
            start, cpu = time.perf_counter(), time.thread_time()
            self.running = True
            for store, puts in zip(self._stores, changed, strict=True):
                store.commit(puts, (), META)
            self.running = False
            self.took_s.append(time.perf_counter() - start)
            self.cpu_s += time.thread_time() - cpu
            self.records += sum(map(len, changed))
            self.bytes += sum(len(record) for puts in changed for _, record in puts)


def _read(stores: list[Store], load: Load, commits: _Commits) -> tuple[list[float], list[float], list[float]]:
    """Read cold viewers until the commits end; return gets while one ran, other gets, and how late ticks were (s)."""
    rng = np.random.default_rng(1)
    during: list[float] = []
    between: list[float] = []
    late: list[float] = []
    due = time.perf_counter()
    while commits.is_alive():
        due = max(due + TICK_S, time.perf_counter() - TICK_S)
        time.sleep(max(0, due - time.perf_counter()))
        if commits.running:
            late.append(max(0, time.perf_counter() - due))
        for place in rng.integers(0, STORES * len(load.keys[0]), GETS_PER_TICK).tolist():
            key = load.keys[place % STORES][place // STORES]
            start, beside = time.perf_counter(), commits.running
            found = stores[place % STORES].get(key)
            (during if beside else between).append(time.perf_counter() - start)
            assert found is not None
    return during, between, late


def _percentiles(values: list[float], scale: float) -> str:
    if len(values) < 2:
        return "-"
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return " / ".join(f"{values_at * scale:,.3g}" for values_at in (cuts[49], cuts[98], max(values)))


def _written_bytes(folder: Path) -> int:
    """Return what the folder's disk was given to write so far, by whomever.

    Linux's count of a process's writes is of whole folios: it says ten times as much as LMDB writes on ext4.
    """
    device = folder.stat().st_dev
    counters = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()
    return int(counters[6]) * 512


def child(engine: str, folder: Path, viewers: int, epochs: int) -> None:
    """Fill the stores, measure, print the row as JSON, then commit until killed."""
    load = Load(viewers)
    start = time.perf_counter()
    stores = [ENGINES[engine](folder / f"{number:02}") for number in range(STORES)]
    _fill(stores, load)
    filled_s = time.perf_counter() - start
    warm = _Commits(stores, load, WARM_EPOCHS)
    warm.start()
    _read(stores, load, warm)
    os.sync()
    written, cpu, start = _written_bytes(folder), time.process_time(), time.perf_counter()
    commits = _Commits(stores, load, epochs)
    commits.start()
    during, between, late = _read(stores, load, commits)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - start
    anonymous = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert anonymous is not None
    row = {
        "fill_s": round(filled_s, 1),
        "commit_ms": _percentiles(commits.took_s, 1e3),
        "cpu_us_a_put": round(commits.cpu_s / commits.records * 1e6, 1),
        "cpu_%": round(100 * cpu / wall, 1),
        "get_us": _percentiles(between, 1e6),
        "get_us_in_commit": _percentiles(during, 1e6),
        "tick_late_ms_in_commit": _percentiles(late, 1e3),
        "written_x": round((_written_bytes(folder) - written) / commits.bytes, 1),
        "memory_mb": int(anonymous[1]) >> 10,  # without mapped files, which the system takes back as it needs
    }
    print(json.dumps(row), flush=True)
    while True:
        for store, puts in zip(stores, load.epoch(), strict=True):
            store.commit(puts, (), META)


def _measure(engine: str, quick: bool, root: Path) -> dict[str, Any]:
    viewers, epochs = (200_000, 12) if quick else (1_000_000, 30)
    folder = root / engine
    command = [sys.executable, "-m", "benchmarks.stores", "--child", engine, str(folder), str(viewers), str(epochs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        time.sleep(0.3)
        second = "refused" if _second_refused(engine, folder / "00") else "let in"
        process.send_signal(signal.SIGKILL)
    if not line:
        raise SystemExit(f"error: the {engine} process ended before its row; see above")
    files = [path for path in folder.rglob("*") if path.is_file()]
    disk = sum(path.stat().st_blocks * 512 for path in files)
    start = time.perf_counter()
    stores = [ENGINES[engine](folder / f"{number:02}") for number in range(STORES)]
    opened_ms = (time.perf_counter() - start) * 1e3
    uncached = _uncached(stores, files, Load(viewers))
    del stores
    return {
        "engine": engine,
        **json.loads(line),
        "disk_mb": disk >> 20,
        "get_us_uncached": _percentiles(uncached, 1e6),
        "open_16_after_kill_ms": round(opened_ms, 1),
        "second_opener": second,
    }


def _uncached(stores: list[Store], files: list[Path], load: Load) -> list[float]:
    """Return how long reads took of files that the system does not have in memory (s)."""
    os.sync()
    for path in files:
        if path.exists():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    took = []
    for number in range(UNCACHED_GETS):
        store, keys = stores[number % STORES], load.keys[number % STORES]
        start = time.perf_counter()
        store.get(keys[number * 7919 % len(keys)])
        took.append(time.perf_counter() - start)
    return took


def _second_refused(engine: str, folder: Path) -> bool:
    code = (
        "import sys, pathlib, benchmarks.stores as b\n"
        f"try: b.ENGINES[{engine!r}](pathlib.Path(sys.argv[1]))\n"
        "except Exception: sys.exit(7)"
    )
    return subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 7


def run(quick: bool, root: Path | None = None) -> list[dict[str, Any]]:
    """Return a row an engine; three figures are median / 99th percentile / maximum."""
    rows = []
    for engine in ENGINES:
        if engine == "rocksdb" and importlib.util.find_spec("rocksdict") is None:
            continue
        folder = Path(tempfile.mkdtemp(prefix="stores-", dir=root))
        try:
            rows.append(_measure(engine, quick, folder))
        finally:
            shutil.rmtree(folder)
    return rows


def _turned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the table with a column an engine, for there are more figures than engines."""
    names = [name for name in rows[0] if name != "engine"]
    return [{"figure": name, **{row["engine"]: str(row[name]) for row in rows}} for name in names]


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        given = [Path(word) for word in sys.argv[1:] if not word.startswith("-")]
        os.environ.setdefault("PYTHONPATH", ".")
        table = run("--quick" in sys.argv, given[0] if given else None)
        console.print(rows_table("stores (three figures: median / 99th percentile / maximum)", _turned(table)))
