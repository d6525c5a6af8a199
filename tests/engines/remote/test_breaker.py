"""The circuit breaker and the retry budget, on a clock of their own."""

from __future__ import annotations

from bicameral.engines.remote.breaker import Breaker, RetryBudget


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(3, 10, Clock())
    for failed in (True, True, False, True, True):
        probe = breaker.enter()
        breaker.bad(probe) if failed else breaker.good()
    assert breaker.wait() == 0
    breaker.bad(breaker.enter())
    assert breaker.open
    assert breaker.wait() == 10


def test_one_probe_at_a_time_then_closed() -> None:
    clock = Clock()
    breaker = Breaker(1, 10, clock)
    breaker.bad(breaker.enter())
    clock.now += 10
    assert breaker.wait() == 0
    assert breaker.enter() is True
    assert breaker.wait() > 0, "a second call must wait for the probe"
    breaker.good()
    assert breaker.wait() == 0
    assert breaker.enter() is False


def test_a_failed_probe_opens_it_again() -> None:
    clock = Clock()
    breaker = Breaker(1, 10, clock)
    breaker.bad(breaker.enter())
    clock.now += 10
    breaker.bad(breaker.enter())
    assert breaker.wait() == 10


def test_an_abandoned_probe_frees_its_place() -> None:
    clock = Clock()
    breaker = Breaker(1, 10, clock)
    breaker.bad(breaker.enter())
    clock.now += 10
    probe = breaker.enter()
    breaker.gone(probe)
    assert breaker.wait() == 0


def test_a_late_failure_of_an_old_call_does_not_prolong_the_wait() -> None:
    clock = Clock()
    breaker = Breaker(1, 10, clock)
    old, new = breaker.enter(), breaker.enter()
    breaker.bad(old)
    clock.now += 6
    breaker.bad(new)
    assert breaker.wait() == 4


def test_retries_are_at_most_a_tenth_of_the_calls() -> None:
    budget = RetryBudget(ratio=0.1, reserve=2)
    retried = 0
    for _ in range(1000):
        budget.call()
        while budget.retry():
            retried += 1
    assert 100 <= retried <= 102
