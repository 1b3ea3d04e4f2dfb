"""Work that is done ahead by threads."""

import threading
import time

import pytest

from mmpanoptic.utils.threads import ahead


@pytest.mark.parametrize('threads', [0, 1, 3])
def test_results_come_in_the_order_of_the_jobs(threads: int):
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert list(ahead(slow_first, range(20), threads, 4)) == [number * number for number in range(20)]
    assert list(ahead(slow_first, [], threads, 4)) == []


def test_no_more_is_done_than_asked_for():
    taken, before = [], threading.active_count()

    def jobs():
        for number in range(1000):
            taken.append(number)
            yield number

    results = ahead(lambda number: number, jobs(), 2, 5)
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) == 7
    results.close()
    assert threading.active_count() == before


@pytest.mark.parametrize('threads', [0, 2])
def test_what_comes_before_an_error_of_the_jobs_is_kept(threads: int):
    def jobs():
        yield from range(3)
        raise OSError('cut off')

    results = ahead(lambda number: number, jobs(), threads, 5)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match='cut off'):
        next(results)


@pytest.mark.parametrize('threads', [0, 2])
def test_an_error_is_raised_in_its_place(threads: int):
    results = ahead(lambda number: 6 // number, [3, 2, 0, 1], threads, 2)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
