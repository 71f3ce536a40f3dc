"""The durable store of one partition, on LMDB: records and what was applied, in one commit.

Why LMDB: docs/decisions/0009-the-durable-store.md. LMDB is a copy-on-write B-tree in one file: a commit writes new
pages, syncs them, then writes the page that points to them, so a store holds exactly its last commit whenever a process
dies. Nothing is replayed at opening, and readers neither wait for a commit nor delay it.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import lmdb

from infra.stores.ownership import LOCK_NAME, Ownership, StoreRefused

DATA_NAME: Final = "data.mdb"
# Addresses reserved, neither memory nor disk: the most a store can grow to. 10 M live posts at 2 kB are 20 GB, and 64
# stores in one process still fit in the 128 TiB of addresses that a process has.
STORE_BYTES_MAX: Final = 64 << 30
KEY_BYTES: Final = 8  # uint64, big-endian, so that the order of bytes is the order of numbers
# Pages at a file's end that a whole store may lack: LMDB does not write those that one commit took and freed again.
UNWRITTEN_PAGES_MAX: Final = 1024
# No room on the disk, in the quota, or under the process's limit of a file's size.
DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_FORMAT_KEY: Final = b"format"
_META_KEY: Final = b"meta"


class PartitionStore:
    """Records by uint64 key and the bytes of `meta`, changed together by `commit` and durable when it returns.

    Reads may run in one thread while a commit runs in another, and see the last commit until the new one is done.
    One thread commits at a time. Open it with `open`, end it with `close`.
    """

    def __init__(self, folder: Path, environment: lmdb.Environment, ownership: Ownership | None) -> None:
        self.folder = folder
        self.meta = b""
        self._environment = environment
        self._ownership = ownership
        self._about = environment.open_db(b"about", create=ownership is not None)
        self._records = environment.open_db(b"records", create=ownership is not None)

    @classmethod
    def open(cls, folder: Path, format_version: int, read_only: bool = False) -> Self:
        """Open the store in a folder, or create it there.

        The owner holds the folder's lock until `close` or the end of the process, so a second owner is refused. A
        store opened with `read_only` needs no lock and may stand beside an owner of another process. What it reads is
        the last commit at the time; while it is in `items`, the owner's file grows instead of using its pages again.

        Raises StoreRefused for a folder owned by another, one that holds no store (or is cut short), another format
        version, or a disk too full to begin; OSError where the system refuses a file.
        """
        try:
            if read_only:
                return cls._opened(folder, format_version, None)
            _create(folder)
            ownership = Ownership.take(folder)
            try:
                return cls._opened(folder, format_version, ownership)
            except BaseException:
                ownership.release()
                raise
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise StoreRefused(f"{folder} has no room for a store: free some on its disk, then start again.") from None

    @classmethod
    def _opened(cls, folder: Path, format_version: int, ownership: Ownership | None) -> Self:
        environment = _environment(folder, read_only=ownership is None)
        try:
            _check_whole(folder, environment)
            with _failures(folder):
                store = cls(folder, environment, ownership)
                store._check_format(format_version)
        except lmdb.NotFoundError:
            environment.close()
            raise StoreRefused(
                f"{folder} holds a store never begun: start the job that writes it, then try again."
            ) from None
        except BaseException:
            environment.close()
            raise
        return store

    def _check_format(self, format_version: int) -> None:
        """Read `meta` after checking the format, or write the format into a new store."""
        with self._environment.begin(self._about) as reading:
            written = reading.get(_FORMAT_KEY)
            self.meta = reading.get(_META_KEY, b"")
        if written is None and self._ownership is not None:
            with self._environment.begin(self._about, write=True) as writing:
                writing.put(_FORMAT_KEY, b"%d" % format_version)
            # LMDB syncs its file, not the folder's entry of it: without this a power cut may leave an empty folder.
            _sync_folder(self.folder)
        elif written != b"%d" % format_version:
            found = "no format" if written is None else f"format {written.decode(errors='replace')}"
            raise StoreRefused(
                f"{self.folder} has {found} and this version reads format {format_version}: "
                "open it with the version that wrote it, or start from an empty folder."
            )

    def get(self, key: int) -> bytes | None:
        """Return a key's record as of the last commit, or None."""
        with self._environment.begin(self._records) as reading:
            found: bytes | None = reading.get(key.to_bytes(KEY_BYTES))
        return found

    def get_many(self, keys: Sequence[int]) -> list[bytes | None]:
        """Return the records of keys in their order, all of one commit; None where there is none."""
        with self._environment.begin(self._records) as reading:
            return [reading.get(key.to_bytes(KEY_BYTES)) for key in keys]

    def commit(self, puts: Iterable[tuple[int, bytes]], deletes: Iterable[int], meta: bytes) -> None:
        """Write records, delete others (a key in both is deleted) and set `meta`: all on disk at return, or nothing.

        Raises OSError where the disk is full or fails, StoreRefused beyond STORE_BYTES_MAX or when open for reading
        only. After either the store holds its last commit. The same commit may be tried again; should the system have
        failed at a commit's last write, that raises OSError as well, until the store is opened again.
        """
        with _failures(self.folder):
            # A reader that was killed would keep its pages from use for ever; looking for one takes 0.1 us.
            self._environment.reader_check()
            with self._environment.begin(self._records, write=True) as writing:
                for key, record in puts:
                    writing.put(key.to_bytes(KEY_BYTES), record)
                for key in deletes:
                    writing.delete(key.to_bytes(KEY_BYTES))
                writing.put(_META_KEY, meta, db=self._about)
        self.meta = meta

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Yield every key and record of the last commit in key order."""
        with self._environment.begin(self._records) as reading:
            for key, record in reading.cursor():
                yield int.from_bytes(key), record

    def __len__(self) -> int:
        """Return the number of records, without counting them."""
        with self._environment.begin(self._records) as reading:
            entries: int = reading.stat(self._records)["entries"]
        return entries

    def size_bytes(self) -> int:
        """Return the bytes that the store takes on disk. They do not shrink: freed pages are used again."""
        return (self.folder / DATA_NAME).stat().st_blocks * 512

    def close(self) -> None:
        """Close the store and give its folder up; no commit may be running. Does nothing the second time."""
        self._environment.close()
        if self._ownership is not None:
            self._ownership.release()


def _create(folder: Path) -> None:
    """Make the folder where there is none; raises StoreRefused for one that holds something else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StoreRefused(f"{folder} is a file: give a folder for the store.") from None
    others = {path.name for path in folder.iterdir()} - {DATA_NAME, "lock.mdb", LOCK_NAME}
    if others and not (folder / DATA_NAME).exists():
        raise StoreRefused(f"{folder} holds {min(others)} and no store: give an empty folder or a store's own.")
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _environment(folder: Path, read_only: bool) -> lmdb.Environment:
    if read_only and not (folder / DATA_NAME).is_file():
        raise StoreRefused(f"{folder} holds no store: name the folder of one, or start the job that writes it.")
    try:
        with _failures(folder):
            # Read-ahead off: cold viewers are read one by one, from a file that may be larger than memory.
            return lmdb.open(
                str(folder),
                map_size=STORE_BYTES_MAX,
                max_dbs=2,
                readonly=read_only,
                readahead=False,
                create=not read_only,
            )
    except lmdb.Error as error:
        if "already open in this process" in str(error):
            raise StoreRefused(f"{folder} is open in this process already: use the store it has.") from None
        raise StoreRefused(
            f"{folder / DATA_NAME} is not a store ({error.reason}): give the folder of one, or an empty one."
        ) from None


def _check_whole(folder: Path, environment: lmdb.Environment) -> None:
    """Raise StoreRefused for a file that was cut: reading past its end would end the process without a word."""
    size = (folder / DATA_NAME).stat().st_size
    if size < (environment.info()["last_pgno"] + 1 - UNWRITTEN_PAGES_MAX) * environment.stat()["psize"]:
        raise StoreRefused(f"{folder / DATA_NAME} is cut short at {size} bytes: restore the store from a whole copy.")


@contextmanager
def _failures(folder: Path) -> Iterator[None]:
    """Turn LMDB's errors of the system into OSError and of its limits into StoreRefused."""
    try:
        yield
    except lmdb.MapFullError:
        raise StoreRefused(
            f"{folder} has reached {STORE_BYTES_MAX >> 30} GiB, the most a store holds: use more partitions."
        ) from None
    except lmdb.ReadonlyError:
        raise StoreRefused(f"{folder} is open for reading only: open it without read_only to write.") from None
    except lmdb.PanicError as error:
        raise OSError(errno.EIO, "a write failed half way; open the store again", str(folder)) from error
    except lmdb.Error as error:
        if error.code <= 0:  # LMDB's own; the system's are positive
            raise
        # A disk that becomes full within a write cuts it short, which LMDB reports as EIO.
        reason = "the disk is full or failed" if error.code == errno.EIO else os.strerror(error.code)
        raise OSError(error.code, reason, str(folder)) from error
