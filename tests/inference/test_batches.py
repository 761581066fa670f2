"""Work beside the networks: it is handed over in order, and all of it, whatever fails."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from bmp.inference.batches import SideWork


def test_results_are_handed_over_in_order_whoever_is_ready_first():
    second_is_done, order = Event(), []
    with ThreadPoolExecutor(2) as pool, SideWork(pool) as work:
        work.add(1, second_is_done.wait, lambda made: order.append("first"))
        work.add(1, second_is_done.set, lambda made: order.append("second"))
    assert order == ["first", "second"]


def test_what_is_behind_a_failure_is_handed_over_also_where_the_caller_fails():
    go, seen = Event(), []

    def fail():
        go.wait()
        raise ValueError("the first one's")

    def hand_over(made):
        seen.append(made.exception() is None)
        made.result()

    def run():
        with ThreadPoolExecutor(2) as pool, SideWork(pool) as work:
            work.add(1, fail, hand_over)
            work.add(1, go.wait, hand_over)
            go.set()
            raise KeyError("the caller's own")

    with pytest.raises(ValueError, match="the first one's"):
        run()
    assert seen == [False, True]
