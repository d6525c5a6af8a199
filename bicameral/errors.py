"""Everything that can go wrong, as one tree. A message says what to do about it.

BicameralError
├── ConfigError        the config file, an option or the environment is wrong
├── WeightsError       weights are missing, cannot be fetched or have a wrong checksum
├── RequestError       the request is wrong; `param` names the field
│   ├── Unsupported    no model at hand honours that field
│   └── NotFound       no such model or mind
├── BudgetError        the answer would cost more than the request allows
├── LimitError         a limit of the caller's key is reached; it says which, and until when
├── LedgerError        the book cannot be written or read, or is wrong
├── ReachError         the data may not travel to any model that could answer
├── ChipError          there is no chip that could do it, or it has gone
├── JournalError       the journal of decisions cannot be read or written
├── PoolFull, LinkError, SegmentError, TensorError    of the data path: see bicameral/callosum
└── ModelError         a model could not answer; `retryable`: another try may work
    ├── Unreachable    no connection
    ├── Timeout        too slow; `phase` says at what
    ├── Overloaded     busy or rate limited; `retry_after` seconds
    ├── Unauthorized   the model refused our key
    ├── Rejected       the model refused the request: its status, param, code and message
    ├── TooLong        the prompt does not fit the context
    ├── Broken         the answer was cut or makes no sense
    └── AllFailed      every member failed; `failures` says who and why
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bicameral.types import Call


class BicameralError(Exception):
    """Any error this package raises on purpose; `calls` lists the leaf calls made before it."""

    calls: tuple[Call, ...] = ()


class ConfigError(BicameralError):
    """The config file, an option or the environment is wrong."""


class WeightsError(BicameralError):
    """Weights are missing, cannot be fetched or have a wrong checksum."""


class RequestError(BicameralError):
    """The request is wrong; `param` names the field, `code` is a stable word for programs."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class Unsupported(RequestError):
    """No model at hand honours the field `param`."""


class NotFound(RequestError):
    """No such model or mind."""


class BudgetError(BicameralError):
    """The answer would cost more than the request allows."""


class LimitError(BicameralError):
    """A limit of the caller's key: `limit` names it, `resets` is the seconds until it may work.

    `resets` None: it will not by itself. `spent`: a budget is used up; else it is only too fast.
    """

    def __init__(
        self, message: str, *, limit: str, resets: float | None = None, spent: bool = True
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.resets = resets
        self.spent = spent


class LedgerError(BicameralError):
    """The book cannot be written or read, or does not add up; nothing is done without it."""


class ReachError(BicameralError):
    """The data may not travel to any model that could answer."""


class ChipError(BicameralError):
    """There is no chip that could do it, or it has gone."""


class JournalError(BicameralError):
    """The journal of decisions cannot be read or written."""


class ModelError(BicameralError):
    """A model could not answer."""

    retryable = False

    def __init__(self, model: str, message: str) -> None:
        super().__init__(f"{model}: {message}")
        self.model = model


class Unreachable(ModelError):
    """No connection to the model."""

    retryable = True


class Timeout(ModelError):
    """The model was too slow; `phase` is connect, first token, between tokens or total."""

    retryable = True

    def __init__(self, model: str, phase: str, seconds: float) -> None:
        super().__init__(model, f"timed out after {seconds:g} s ({phase})")
        self.phase = phase


class Overloaded(ModelError):
    """The model is busy or rate limited; `retry_after` is in seconds where it was said."""

    retryable = True

    def __init__(
        self, model: str, message: str, *, retry_after: float | None = None, status: int = 429
    ) -> None:
        super().__init__(model, message)
        self.retry_after = retry_after
        self.status = status


class Unauthorized(ModelError):
    """The model refused our key."""


class Rejected(ModelError):
    """The model refused the request, in its own words."""

    def __init__(
        self,
        model: str,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | int | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(model, message)
        self.status = status
        self.param = param
        self.code = code
        self.kind = kind


class TooLong(ModelError):
    """The prompt does not fit the model's context."""


class Broken(ModelError):
    """The answer was cut or makes no sense."""

    retryable = True


class AllFailed(ModelError):
    """Every member failed or was unfit; `failures` maps each to its reason."""

    def __init__(self, model: str, failures: Mapping[str, BicameralError]) -> None:
        lines = "; ".join(str(e) for e in failures.values())
        super().__init__(model, f"no member could answer: {lines}")
        self.failures = dict(failures)
        self.retryable = any(isinstance(e, ModelError) and e.retryable for e in failures.values())
