"""When a node looks for releases: when nudged, now and then, and again when it was in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from participant.node import release_watch
from participant.node.release_watch import ReleaseWatch
from tests.support.waiting import wait_until

LONG_S = 1000.0


class Looks:
    """Answers look after look as told, and then that all is well."""

    def __init__(self, *answers: bool | Exception) -> None:
        self._answers = list(answers)
        self.count = 0

    def __call__(self) -> bool:
        self.count += 1
        answer = self._answers.pop(0) if self._answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def watching(look: Callable[[], bool], **options: object) -> Iterator[ReleaseWatch]:
    watch = ReleaseWatch(look, **options)  # type: ignore[arg-type]
    watch.start()
    try:
        yield watch
    finally:
        assert watch.stop(10)


def test_nothing_is_looked_at_before_there_is_a_connection():
    looks = Looks()
    with watching(looks, check_s=0.001) as watch:
        threading.Event().wait(0.1)
        assert looks.count == 0
        watch.nudge()
        wait_until(lambda: looks.count >= 3)  # and from then on by itself


def test_each_nudge_is_a_look_whatever_the_pause():
    looks = Looks()
    with watching(looks, check_s=LONG_S) as watch:
        for number in (1, 2, 3):
            watch.nudge()
            wait_until(lambda number=number: looks.count == number)


def test_a_look_in_vain_or_in_error_is_repeated_with_growing_pauses():
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.001 if low == 0 else LONG_S

    looks = Looks(False, ValueError("broken"), *[False] * 8)
    with watching(looks, check_s=LONG_S, drawn=draw) as watch:
        watch.nudge()
        wait_until(lambda: looks.count == 11 and len(drawn) == 11)
    pauses = [high for low, high in drawn if low == 0]
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert drawn[-1] == (LONG_S / 2, LONG_S)


def test_a_look_that_does_not_end_does_not_hold_the_node_up():
    begun, over = threading.Event(), threading.Event()

    def look() -> bool:
        begun.set()
        return over.wait(60)

    watch = ReleaseWatch(look)
    watch.start()
    watch.nudge()
    assert begun.wait(60)
    assert not watch.stop(0.01)
    over.set()
    assert watch.stop(60)


def test_a_look_costs_the_coordinator_no_more_than_once_in_half_an_hour():
    assert release_watch.CHECK_S >= 3600
