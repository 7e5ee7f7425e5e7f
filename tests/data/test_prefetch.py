from __future__ import annotations

import signal
import threading
import time
import traceback

import pytest

from textclf_transformer.data.prefetch import prefetch

_SECONDS = 10


@pytest.fixture(autouse=True)
def seconds_not_forever():
    """Threads that go wrong wait for each other: then the test fails, instead of waiting with them."""

    def give_up(signum, frame):
        raise TimeoutError(f"still waiting after {_SECONDS} seconds")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, give_up)
    # again each second: the first one ends a wait for an item, and then the generator may wait for its thread
    signal.setitimer(signal.ITIMER_REAL, _SECONDS, 1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def no_thread_left_behind(seconds_not_forever):
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("depth", [1, 2, 50])
def test_items_come_in_order(depth):
    assert list(prefetch(range(20), depth=depth)) == list(range(20))


def test_none_is_an_item_like_any_other():
    assert list(prefetch([None, 1, None])) == [None, 1, None]


def test_items_are_prepared_ahead_but_not_further_than_depth():
    prepared = []

    def source():
        for item in range(100):
            prepared.append(item)
            yield item

    items = prefetch(source(), depth=3)
    assert next(items) == 0
    deadline = time.monotonic() + 5
    while len(prepared) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    # one taken, three ready, and one in the thread's hand
    assert prepared == [0, 1, 2, 3, 4]
    items.close()


def test_preparation_runs_in_another_thread():
    threads = list(prefetch(threading.get_ident() for _ in range(2)))
    assert threading.get_ident() not in threads


def test_an_exception_comes_at_its_place_with_its_traceback():
    def faulty_source():
        yield 1
        raise KeyError("row 7")

    items = prefetch(faulty_source())
    assert next(items) == 1
    with pytest.raises(KeyError, match="row 7") as caught:
        next(items)
    assert "faulty_source" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_early_ends_the_thread_and_the_source(depth, taken):
    closed = threading.Event()

    def endless_source():
        try:
            item = 0
            while True:
                yield item
                item += 1
        finally:
            closed.set()

    source = endless_source()  # held, so that it is not closed for want of an owner
    items = prefetch(source, depth=depth)
    for _ in range(taken):
        next(items)
    items.close()
    assert closed.is_set() or taken == 0  # a generator that was never asked never started


def test_an_exception_of_the_consumer_ends_the_thread():
    with pytest.raises(RuntimeError, match="consumer"):
        for _ in prefetch(iter(int, 1)):
            raise RuntimeError("consumer")


def test_a_failure_while_closing_does_not_hang():
    def fails_late():
        yield 1
        time.sleep(0.05)
        raise ValueError

    items = prefetch(fails_late(), depth=1)
    assert next(items) == 1
    items.close()
