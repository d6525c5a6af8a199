"""Computes again, for the auditor, what every entry changes, and checks that it may.

It shares no code with what books: an error made there is not made here again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any


class Replay:
    """The book as its entries so far leave it; `wrong` is told what is wrong with the last one.

    `tally` is what they add up to by name, `holds` the bodies of the open ones by id, `keys` the
    API keys by digest.
    """

    def __init__(self, wrong: Callable[[str], None]) -> None:
        self.tally: dict[str, int] = defaultdict(int)
        self.holds: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self._wrong = wrong
        self._seq = 0
        self._prepaid: dict[str, bool] = {}
        self._margins: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def take(self, seq: int, id: str, at: int, text: str, digest: bytes) -> None:
        """The next entry, as its row in the table."""
        self._seq = seq
        try:
            body = json.loads(text)
            postings = dict(body.get("postings", ()))
            if body["id"] != id:
                self._wrong("its id is not the one in its body")
            if any(type(amount) is not int for amount in postings.values()):
                raise TypeError("an amount is no whole number")
            for account, amount in body.get("postings", ()):
                self.tally[f"account/{account}"] += amount
                if account.startswith("margin/") and body["type"] != "settlement":
                    self._margins[account].append((seq, amount))
            if sum(amount for _, amount in body.get("postings", ())) != 0:
                self._wrong("its postings do not sum to zero")
            if check := getattr(self, f"_{body['type']}", None):
                check(body, postings)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._wrong(f"it makes no sense: {error!r}")

    def _hold(self, body: dict[str, Any], _: dict[str, int]) -> None:
        self.holds[body["id"]] = body
        self._held(body, 1)

    def _void(self, body: dict[str, Any], _: dict[str, int]) -> None:
        held = self._resolve(body)
        if body.get("expired"):
            self._spend(held["caller"], held["day"], held["money"] or 0, held["tokens"])

    def _booking(self, body: dict[str, Any], postings: dict[str, int]) -> None:
        caller, paid = body["caller"], body.get("paid", 0)
        held = self._resolve(body) if body.get("held") else None
        most = paid if held is None or held["money"] is None else held["money"]
        charged = -postings.get(f"caller/{caller}", 0)
        if charged != min(paid, most):
            self._wrong(f"its caller is charged {charged} of {paid}, {most} held")
        costs: dict[str, int] = defaultdict(int)
        for call in body.get("calls", ()):
            costs[f"owner/{call.get('owner') or call['model']}"] += call.get("cost") or 0
        owners = {name: n for name, n in postings.items() if name.startswith("owner/")}
        if owners != {name: cost for name, cost in costs.items() if cost}:
            self._wrong("its owners do not get what its calls cost")
        prepaid = held and held["money"] is not None and self._prepaid.get(caller)
        if prepaid and self.tally[f"account/caller/{caller}"] < 0:
            self._wrong(f"{caller} has spent more than was paid in")
        self._spend(caller, (held or body)["day"], min(paid, most), _tokens(body, held))

    def _settlement(self, body: dict[str, Any], postings: dict[str, int]) -> None:
        account, first, last = f"margin/{body['mind']}", body["first"], body["last"]
        due = sum(n for seq, n in self._margins[account] if first <= seq <= last)
        if not due == body["margin"] == -postings.get(account, 0):
            self._wrong(f"it settles a margin of {body['margin']}, where {due} are not settled")
        self._margins[account] = [m for m in self._margins[account] if not first <= m[0] <= last]
        owners = [n for name, n in postings.items() if name.startswith("owner/")]
        if not sum(owners) == body["amount"] == body["margin"] - body["kept"] or min([0, *owners]):
            self._wrong(f"its owners do not get the margin less {body['kept']}")

    def _transfer(self, body: dict[str, Any], postings: dict[str, int]) -> None:
        for account, amount in postings.items():
            paid_out = body["why"] == "payout" and account.startswith("owner/") and amount < 0
            if paid_out and self.tally[f"account/{account}"] < 0:
                self._wrong(f"{account} is paid more than it has earned")

    def _key(self, body: dict[str, Any], _: dict[str, int]) -> None:
        key = body["key"]
        self.keys[key["digest"]] = key
        self._prepaid[key["id"]] = key.get("limits", {}).get("prepaid", False)

    def _resolve(self, body: dict[str, Any]) -> dict[str, Any]:
        """The hold that `body` says it resolves, as it was made."""
        held: dict[str, Any] = body["held"]
        hold = self.holds.pop(held["id"], None)
        if hold is None:
            self._wrong(f"it resolves the hold {held['id']}, which is not open")
        elif any(hold[name] != value for name, value in held.items()):
            self._wrong(f"it resolves the hold {held['id']} with other amounts")
        self._held(held, -1)
        return held

    def _held(self, held: dict[str, Any], sign: int) -> None:
        self.tally[f"held/{held['caller']}/money"] += sign * (held["money"] or 0)
        self.tally[f"held/{held['caller']}/tokens"] += sign * held["tokens"]

    def _spend(self, caller: str, day: str, money: int, tokens: int) -> None:
        if caller == "local":  # it has no key, so nothing of it is counted
            return
        for unit, amount in (("money", money), ("tokens", tokens)):
            for window in (day, day[:7], "ever"):
                self.tally[f"spent/{caller}/{unit}/{window}"] += amount


def _tokens(body: dict[str, Any], held: dict[str, Any] | None) -> int:
    """Those that count: of calls of which they are known, or what was held."""
    total = 0
    for call in body.get("calls", ()):
        usage = call.get("estimate", call.get("usage", {}))
        known = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if None in known:
            return held["tokens"] if held else total
        total += sum(known)
    return total
