"""Members as a policy asks them: another sample of one, or a question on the mind's own behalf."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from msgspec.structs import replace

from bicameral.errors import Broken
from bicameral.model import Model, collect
from bicameral.types import Card, Delta, Done, Event, Request, Text

# Samples beyond the first have to differ from it.
_WARM = 0.8


class Aside:
    """A member whose whole answer is read before it counts; it is a Model itself.

    `read` turns what the member said into what this says, and raises ValueError for nonsense:
    that is a failure like any other, and what was spent on it is known.
    """

    def __init__(self, model: Model, read: Callable[[str], str]) -> None:
        self._model = model
        self._read = read

    @property
    def card(self) -> Card:
        """The member's own."""
        return self._model.card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """What the member said, as it was read, in one piece."""
        answer = await collect(self._model, request)
        if answer.error is not None:
            raise answer.error
        name = self.card.name
        try:
            said = self._read(answer.text)
        except ValueError as error:
            broken = Broken(name, str(error))
            broken.calls = answer.calls
            raise broken from error
        yield Delta(Text(said), by=name)
        yield Done(
            usage=answer.usage,
            reason=answer.reason or "stop",
            by=answer.by,
            calls=answer.calls,
            why=answer.why,
            decisions=answer.decisions,
        )


class Sample:
    """The `number`-th sample of a member, which is drawn with a higher temperature."""

    def __init__(self, model: Model, number: int) -> None:
        self._model = model
        self._number = number

    @property
    def card(self) -> Card:
        """The member's own."""
        return self._model.card

    def run(self, request: Request) -> AsyncGenerator[Event]:
        """The member's stream."""
        sampling = request.sampling
        seed = None if sampling.seed is None else sampling.seed + self._number
        warm = max(sampling.temperature or 0.0, _WARM)
        drawn = replace(sampling, temperature=warm, seed=seed)
        return self._model.run(request.but(sampling=drawn))
