"""A client that is not installed is a skip with its reason, or a failure where all must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.installed import need


def test_a_client_that_is_there(tmp_path: Path):
    assert need(tmp_path) == tmp_path


@pytest.mark.parametrize(("required", "ends"), [("", pytest.skip), ("1", pytest.fail)])
def test_a_missing_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: str, ends: type
):
    monkeypatch.setenv("BICAMERAL_REQUIRE_CLIENTS", required)
    with pytest.raises(ends.Exception, match="run `make clients`"):
        need(tmp_path / "absent")
