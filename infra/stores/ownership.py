"""Who owns a store's folder: a kernel lock that ends with the process, however it ends."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final, Self

LOCK_NAME: Final = "owner.lock"
# The longest process id is 7 digits on Linux (kernel.pid_max is at most 4,194,304).
_PID_BYTES: Final = 16


class StoreRefused(ValueError):
    """A store that can't be opened or written as asked; the message is one sentence for people."""


class Ownership:
    """The exclusive lock on a folder, held until `release` or the end of the process and of what it forked."""

    def __init__(self, file: int) -> None:
        self._file = file

    @classmethod
    def take(cls, folder: Path) -> Self:
        """Take the folder's lock; raises StoreRefused where another store object, here or elsewhere, has it."""
        file = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # flock and not POSIX locks: those would let a second store of the same process through.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(file, 0)
            os.pwrite(file, str(os.getpid()).encode(), 0)
        except OSError as error:
            os.close(file)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise StoreRefused(
                    f"{folder} is in use by {owner_of(folder)}: stop that job first, or give this one another folder."
                ) from None
            error.filename = str(folder)
            raise
        return cls(file)

    def release(self) -> None:
        """Give the folder up; does nothing the second time."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def owner_of(folder: Path) -> str:
    """Return "process 1234" as the folder's last owner wrote it, or "another process"."""
    pid = (folder / LOCK_NAME).read_bytes()[:_PID_BYTES]
    return f"process {pid.decode()}" if pid.isdigit() else "another process"
