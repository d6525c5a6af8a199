"""When not to call a remote model: the circuit breaker and the retry budget."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Opens after `failures` in a row; every `seconds` it lets exactly one probe through.

    Bracket a call: `enter`, then one of `good`, `bad` or, if it proved nothing, `gone`.
    """

    def __init__(
        self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._failed = 0
        self._until = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether the last failures were too many."""
        return self._failed >= self._limit

    def wait(self) -> float:
        """Seconds until a call may go; 0: now."""
        if not self.open:
            return 0.0
        left = self._until - self._clock()
        return self._seconds if self._probing and left <= 0 else max(0.0, left)

    def enter(self) -> bool:
        """Begin a call, which `wait` must have allowed; True: it is the probe."""
        self._probing = self.open
        return self._probing

    def good(self) -> None:
        """The model answered: close."""
        self._failed = 0
        self._probing = False

    def bad(self, probe: bool) -> None:
        """The model failed; a late failure of an old call does not prolong the wait."""
        was_open = self.open
        self._failed += 1
        if probe:
            self._probing = False
        if self.open and (probe or not was_open):
            self._until = self._clock() + self._seconds

    def gone(self, probe: bool) -> None:
        """The call was given up before it proved anything: another may probe."""
        if probe:
            self._probing = False


class RetryBudget:
    """Lets retries be at most `ratio` of the calls, after a first `reserve`."""

    def __init__(self, ratio: float = 0.1, reserve: float = 2.0) -> None:
        self._ratio = ratio
        self._most = max(10.0, reserve)
        self._tokens = reserve

    def call(self) -> None:
        """Count a call, not a retry."""
        self._tokens = min(self._most, self._tokens + self._ratio)

    def retry(self) -> bool:
        """Take leave to retry once; False if the budget is spent."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
