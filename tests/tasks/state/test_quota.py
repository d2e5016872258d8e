"""Is a project's quota kept although its tasks are not counted for every submit?"""

from __future__ import annotations

from tasks_app.state.quota import Quota


class Queue:
    """Tasks of one project, with the number of times they were counted."""

    def __init__(self, queued: int = 0) -> None:
        self.queued = queued
        self.counts = 0

    def count(self) -> int:
        self.counts += 1
        return self.queued

    def fill(self, quota: Quota, limit: int) -> None:
        while not quota.is_full("p", limit, self.count):
            self.queued += 1


def test_queue_is_filled_to_the_quota_exactly_with_few_counts() -> None:
    """One process never exceeds the quota, and counts some hundred times for 20,000 tasks."""
    queue = Queue()
    queue.fill(Quota(clock=lambda: 0.0), 20_000)
    assert queue.queued == 20_000
    assert queue.counts < 120


def test_processes_that_count_at_the_same_moment_do_not_overshoot() -> None:
    """Ten processes that all remember an empty queue stay below the quota."""
    queue, processes = Queue(), [Quota(clock=lambda: 0.0) for _ in range(10)]
    for quota in processes:
        assert not quota.is_full("p", 1_000, lambda: 0)
    for quota in processes:
        queue.queued += 1
        while quota._take_spare(("p", 1_000)):
            queue.queued += 1
    assert queue.queued == 1_000


def test_memory_of_room_ends_after_a_second() -> None:
    """A queue that other processes filled is seen as full a second later."""
    now = [0.0]
    quota, queue = Quota(clock=lambda: now[0]), Queue()
    assert not quota.is_full("p", 100, queue.count)
    queue.queued = 100
    assert not quota.is_full("p", 100, queue.count)
    now[0] = 1.0
    assert quota.is_full("p", 100, queue.count)


def test_small_quota_is_counted_every_time() -> None:
    """With little room left every submit is counted, so that the last place is given only once."""
    queue = Queue()
    queue.fill(Quota(), 3)
    assert (queue.queued, queue.counts) == (3, 4)
