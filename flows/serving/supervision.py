"""Several instances of the job on one machine: processes of their own, started again when they end."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from types import FrameType
from typing import Final

from infra.operations import get_log

log = get_log("supervision")

# An instance that ends at once is started again no faster than this, twice as slow each time.
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
# One that has run so long begins again at the first wait.
STEADY_S: Final = 30.0
STOP_S: Final = 15.0
REFUSED: Final = 2


@dataclass(slots=True)
class _Instance:
    command: list[str]
    process: "subprocess.Popen[bytes]"
    started_s: float
    backoff_s: float = BACKOFF_FIRST_S


def commands(arguments: list[str], instances: int, port: int) -> list[list[str]]:
    """Return the command line of each instance, from that of the supervisor."""
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in {"--instances", "-n", "--port"}:
            skip = True
        elif not argument.startswith(("--instances=", "--port=")):
            kept.append(argument)
    return [
        [sys.executable, *kept, "--instance", f"{k}/{instances}", "--port", str(port + k if port else 0)]
        for k in range(instances)
    ]


def supervise(instances: int, port: int) -> int:
    """Run instances until SIGTERM or SIGINT, then stop them; return the status to end with.

    An instance that is refused (status 2) stops all: it would be refused again.
    """
    stopping = False

    def told(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGINT, told)
    # Sessions of their own: Ctrl-C comes to us alone, and we pass it on once.
    running = [
        _Instance(one, subprocess.Popen(one, start_new_session=True), time.monotonic())
        for one in commands(sys.argv, instances, port)
    ]
    while not stopping:
        time.sleep(0.1)
        for one in running:
            status = one.process.poll()
            if status is None:
                continue
            if status == REFUSED:
                return _stopped(running, REFUSED)
            if time.monotonic() - one.started_s > STEADY_S:
                one.backoff_s = BACKOFF_FIRST_S
            log.warning("instance_ended", command=one.command[-3], status=status, again_in_s=one.backoff_s)
            time.sleep(one.backoff_s)
            one.backoff_s = min(2 * one.backoff_s, BACKOFF_MAX_S)
            one.process, one.started_s = subprocess.Popen(one.command, start_new_session=True), time.monotonic()
    return _stopped(running, 0)


def _stopped(running: list[_Instance], status: int) -> int:
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()
    end_s = time.monotonic() + STOP_S
    for one in running:
        try:
            if one.process.wait(max(0.1, end_s - time.monotonic())) != 0 and not status:
                status = 1
        except subprocess.TimeoutExpired:
            one.process.kill()
            status = 1
    return status
