"""The next items made in a thread while the last ones are used: features are built while XLA computes."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

Item = TypeVar("Item")

AHEAD: Final = 2  # one being used, one ready: more would only hold memory
LOOK_S: Final = 0.1  # how often a thread that nobody reads from looks whether it should end


class _End:
    """What a thread puts last: the error that ended it, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterable[Item], depth: int = AHEAD) -> Iterator[Item]:
    """Yield items in their order, made up to `depth` ahead in a thread; what making them raises is raised here."""
    waiting: queue.Queue[Item | _End] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Item | _End) -> None:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=LOOK_S)
            except queue.Full:
                continue
            return

    def make() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
        except BaseException as raised:
            error = raised
        put(_End(error))

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
