"""Preparing batches in the background while the machine computes."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from queue import Empty, Queue
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(iterable: Iterable[Item], *, depth: int = 2) -> Generator[Item, None, None]:
    """Yield the items of ``iterable``, prepared by one thread up to ``depth`` items ahead.

    Masking and collating spend their time in numpy and torch, outside the interpreter's lock, so a thread is
    enough and nothing needs to be pickled. The order is that of ``iterable``. An exception raised while
    preparing is raised here, at its place in the order and with its own traceback. When the generator is
    exhausted, closed, or dropped, the thread has ended.

    Args:
        iterable: what to prepare; it is read, and closed, by the thread alone.
        depth: items that may lie ready, 1 or more.
    """
    ready: Queue[tuple[Item] | BaseException | None] = Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        ending: BaseException | None = None
        iterator = iter(iterable)
        try:
            for item in iterator:
                if stop.is_set():
                    break
                ready.put((item,))
            if isinstance(iterator, Generator):
                iterator.close()
        except BaseException as error:
            ending = error
        if not stop.is_set():
            ready.put(ending)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        stop.set()
        # the thread looks at ``stop`` before each put: at most one is still to come, and needs a free place
        with suppress(Empty):
            while True:
                ready.get_nowait()
        thread.join()
