"""The API's own description is true: schemathesis finds no answer that it does not allow."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from bicameral.server import openapi
from tests.server.client import call
from tests.server.live import ECHO, Live, served, serving

MODELS = (
    ECHO
    + """
[models.vec]
engine = "scripted"
emits = ["embedding"]
[models.film]
engine = "scripted"
accepts = ["text", "image", "video"]
emits = ["video"]
[videos]
path = "{folder}"
"""
)
MAKERS = {"embeddings": "vec", "videos": "film"}
# HTTP lets a client send headers and query fields that nobody described.
CONFIG = SchemathesisConfig.from_dict({"generation": {"allow-extra-parameters": False}})
schema = schemathesis.openapi.from_file(openapi.document().decode(), config=CONFIG)
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "25"))


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Iterator[Live]:
    with served(MODELS.format(folder=tmp_path_factory.mktemp("videos"))) as live:
        yield live


# What the schema admits may still be refused: no such model, a tool turn without its call.
EXCLUDED = [positive_data_acceptance]


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: schemathesis.Case, live: Live) -> None:
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = MAKERS.get(case.path.split("/")[2], "echo")
    case.call_and_validate(base_url=live.url, excluded_checks=EXCLUDED, timeout=10)


async def test_it_is_served_and_names_every_route() -> None:
    async with serving() as live:
        document = (await call(live, "GET", "/openapi.json")).json
        rest = {route.path.replace(":path", "") for route in live.server.app._rest.routes}
        assert set(document["paths"]) == rest
        assert len(CHECKS.get_all()) > 8
