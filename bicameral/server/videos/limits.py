"""What can be known at once of the limits of a key that asks for a video that is made later."""

from __future__ import annotations

import os

from bicameral.brain import Brain
from bicameral.errors import BudgetError, LimitError
from bicameral.ledger.book import Wanted, void
from bicameral.ledger.bounds import Bounds, bounds
from bicameral.ledger.keys import Key
from bicameral.ledger.tariff import tariff
from bicameral.ledger.till import Till
from bicameral.types import Request


async def foresee(brain: Brain, request: Request, name: str, caller: str) -> None:
    """Raise LimitError or BudgetError if `caller`'s key could not have it run now; LedgerError.

    Money is set aside and given back at once: it is set aside again when the job runs, by which
    time another may have spent it.
    """
    till, key = brain.till, brain.till.key(caller) if brain.till else None
    if till is None:
        return
    till.book.check()
    if key is None:
        return
    _pace(till, key)
    money, tokens = key.limits.bounds("money"), key.limits.bounds("tokens")
    if not money and not tokens:
        return
    limit = _bounds(brain, request, name, money)
    if limit is None or (tokens and limit.tokens is None):
        raise BudgetError(
            f"the key {key.name} has a budget, and nothing bounds what {name} may cost for this "
            "request; it is for the operator to price its members"
        )
    wanted = Wanted(
        id=f"{os.urandom(12).hex()}/foreseen",
        caller=key.id,
        mind=name,
        least=limit.least if money else 0,
        most=limit.most if money else None,
        tokens=(limit.tokens or 0) if tokens else 0,
    )
    till.book.settle_soon(void(await till.book.authorise(wanted, key)))


def _pace(till: Till, key: Key) -> None:
    quota = till.pace.quota(key, "requests")
    if quota is not None and quota.remaining < 1:
        raise LimitError(
            f"the key {key.name} may take {quota.limit} requests a minute, and has",
            limit="requests_per_minute",
            resets=quota.resets,
            spent=False,
        )


def _bounds(brain: Brain, request: Request, name: str, priced: bool) -> Bounds | None:
    config = brain.config
    rates = tariff(config.minds.get(name))
    return bounds(request, brain.model(name), brain.models, config, rates, priced=priced)
