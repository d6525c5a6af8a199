"""`apart` in the config: the member runs elsewhere, and wrong keys are named."""

from __future__ import annotations

import pytest

from bicameral import Brain
from bicameral.config import parse
from bicameral.errors import ConfigError
from bicameral.right.apart import Apart

FAR = """
[models.far]
engine = "scripted"
reply = "from afar"
"""


@pytest.mark.parametrize("how", ["apart = true", "[models.far.apart]\nsilent = 20.0"])
async def test_a_member_apart_answers_as_any_other(how: str) -> None:
    async with Brain.open(parse(f"{FAR}{how}\n", "test")) as brain:
        model = brain.models["far"]._model  # what the meter is around
        assert isinstance(model, Apart)
        assert (await brain.ask("?", mind="far")).text.strip() == "from afar"


async def test_apart_false_is_here() -> None:
    async with Brain.open(parse(f"{FAR}apart = false\n", "test")) as brain:
        assert not isinstance(brain.models["far"]._model, Apart)


async def test_a_wrong_key_is_named() -> None:
    config = parse(f"{FAR}[models.far.apart]\nsilence = 1\n", "here.toml")
    with pytest.raises(ConfigError, match=r"here.toml: \[models.far.apart\] .*'silent'"):
        async with Brain.open(config):
            pass


async def test_what_cannot_be_opened_there_is_the_error_it_would_be_here() -> None:
    config = parse('[models.x]\nengine = "llama_cpp"\nweights = "nothing"\napart = true\n', "t")
    with pytest.raises(Exception, match="nothing") as apart:
        async with Brain.open(config):
            pass
    here = parse('[models.x]\nengine = "llama_cpp"\nweights = "nothing"\n', "t")
    with pytest.raises(type(apart.value)):
        async with Brain.open(here):
            pass
