"""What four client libraries must see: one suite, run through each of them."""

from __future__ import annotations

import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.installed import ENVIRONMENTS, HERE, NODE, need
from tests.clients.pictures import png
from tests.clients.program import Program
from tests.clients.serving import REPLY, WORDS, Server

ALL = ("openai-python", "openai-node", "ai-sdk", "langchain")
OPENAI = ("openai-python", "openai-node")
REASONING = ("openai-python", "openai-node", "ai-sdk")


def command(name: str) -> tuple[str, ...]:
    """How to start the program of a client; skips where that is not installed."""
    match name:
        case "openai-python":
            return sys.executable, str(HERE / "openai_program.py")
        case "langchain":
            python = need(ENVIRONMENTS / "langchain" / "bin" / "python")
            return str(python), str(HERE / "langchain_program.py")
    need(NODE / "node_modules")
    return "node", str(NODE / {"openai-node": "openai.mjs", "ai-sdk": "ai_sdk.mjs"}[name])


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, Program]]:
    """The programs that run, by client."""
    running: dict[str, Program] = {}
    yield running
    for program in running.values():
        program.close()


class Client:
    """A client that is told what to do, with which model, and on which server."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def __call__(self, do: str, server: Server, model: str = "", **fields: Any) -> dict[str, Any]:
        """What came of it, where it must come well."""
        outcome = self._call(do, server, model, **fields)
        assert "error" not in outcome, outcome["error"]
        return outcome

    def fails(self, do: str, server: Server, model: str = "", **fields: Any) -> dict[str, Any]:
        """The error that it must end with."""
        outcome = self._call(do, server, model, **fields)
        assert "error" in outcome, outcome
        return outcome["error"]

    def _call(self, do: str, server: Server, model: str, **fields: Any) -> dict[str, Any]:
        asked = {"url": server.url, "key": server.key, "model": model, "messages": said("Hello?")}
        return self._program.call(do, **asked | fields)


@pytest.fixture(params=ALL)
def client(request: pytest.FixtureRequest, programs: dict[str, Program]) -> Client:
    name = request.param
    if name in programs and programs[name].ended:
        programs.pop(name).close()
    if name not in programs:
        programs[name] = Program(*command(name))
    return Client(programs[name])


def only(*names: str) -> pytest.MarkDecorator:
    """For the clients that have what the test is about."""
    return pytest.mark.parametrize("client", names, indirect=True)


def said(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def test_chat(client: Client, server: Server):
    done = client("chat", server, "says")
    assert done["text"] == REPLY
    assert done["finish"] == "stop"
    assert done["usage"] == [1, WORDS, WORDS + 1]


def test_the_default_mind_answers(client: Client, server: Server):
    assert client("chat", server, "default")["text"] == REPLY


def test_length_is_told(client: Client, server: Server):
    done = client("chat", server, "says", fields={"max_tokens": 2})
    assert done["finish"] == "length"
    assert done["usage"] == [1, 2, 3]


def test_unknown_usage_is_not_zero(client: Client, server: Server):
    assert client("chat", server, "silent")["usage"] in (None, [None, None, None])


def test_stream_without_usage(client: Client, server: Server):
    done = client("stream", server, "says")
    assert (done["text"], done["finish"], done["pieces"]) == (REPLY, "stop", WORDS)
    assert done["usage"] is None
    assert done.get("empty", 0) == 0


def test_stream_with_usage(client: Client, server: Server):
    done = client("stream", server, "says", usage=True)
    assert (done["text"], done["finish"], done["pieces"]) == (REPLY, "stop", WORDS)
    assert done["usage"] == [1, WORDS, WORDS + 1]
    assert done.get("empty", 1) == 1


def test_a_stream_is_metered_though_nobody_asked(client: Client, server: Server):
    before = server.tokens("says")
    client("stream", server, "says")
    assert server.sees_tokens("says", before + WORDS)


@only(*OPENAI)
def test_the_request_id_reaches_the_client(client: Client, server: Server):
    first, second = (client("chat", server, "says")["request_id"] for _ in range(2))
    assert first != second
    assert first.startswith("req_")


@only(*REASONING)
@pytest.mark.parametrize("do", ["chat", "stream"])
def test_reasoning_arrives_beside_the_text(client: Client, server: Server, do: str):
    done = client(do, server, "thinks")
    assert done["text"] == REPLY
    assert done["reasoning"] == "Let me think."


@pytest.mark.parametrize("forced", [False, True], ids=["auto", "forced"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tools(client: Client, server: Server, streamed: bool, forced: bool):
    done = client("tools", server, "calls", streamed=streamed, forced=forced)
    assert done["calls"] == [["get_weather", {"city": "New York"}]]
    assert done["text"] == "It is sunny."


def test_tools_are_refused_by_name(client: Client, server: Server):
    refused = client.fails("tools", server, "plain", streamed=False, forced=False)
    assert (refused["status"], refused["param"]) == (400, "tools")


@pytest.mark.parametrize("strict", [True, False], ids=["json_schema", "json_object"])
def test_schema(client: Client, server: Server, strict: bool):
    done = client("schema", server, "person", strict=strict)
    assert done["value"] == {"name": "Ada", "born": 1815}


@only("openai-python")
def test_a_parsed_answer_can_be_sent_back(client: Client, server: Server):
    assert client("again", server, "person")["usage"][0] > 2


def test_schema_is_refused_by_name(client: Client, server: Server):
    refused = client.fails("schema", server, "plain", strict=True)
    assert (refused["status"], refused["param"]) == (400, "response_format")


def picture(client_name: str) -> list[dict[str, Any]]:
    """A question with a red dot, in the words of OpenAI or of the AI SDK."""
    url = "data:image/png;base64," + b64encode(png()).decode()
    openai = {"type": "image_url", "image_url": {"url": url}}
    shown = {"type": "image", "image": url} if client_name == "ai-sdk" else openai
    return said([{"type": "text", "text": "What is this?"}, shown])


def test_image_is_accepted(client: Client, server: Server, request: pytest.FixtureRequest):
    messages = picture(request.node.callspec.params["client"])
    assert client("chat", server, "sees", messages=messages)["text"] == REPLY


def test_image_is_refused(client: Client, server: Server, request: pytest.FixtureRequest):
    messages = picture(request.node.callspec.params["client"])
    refused = client.fails("chat", server, "says", messages=messages)
    assert (refused["status"], refused["param"]) == (400, "messages")
    assert "image" in refused["message"]


def test_closing_the_stream_stops_the_model(client: Client, server: Server):
    before = server.cancelled("slow")
    assert client("cancel", server, "slow")["text"]
    assert server.sees_cancelled("slow", before + 1)


@pytest.mark.parametrize("do", ["chat", "stream"])
def test_unknown_model(client: Client, server: Server, do: str):
    refused = client.fails(do, server, "sayz")
    assert (refused["status"], refused["code"]) == (404, "model_not_found")
    assert "says" in refused["message"]


@pytest.mark.parametrize("do", ["chat", "stream"])
def test_bad_parameter(client: Client, server: Server, do: str):
    refused = client.fails(do, server, "says", fields={"temperature": "hot"})
    assert (refused["status"], refused["param"]) == (400, "temperature")


def test_more_answers_than_one_are_refused_by_name(client: Client, server: Server):
    refused = client.fails("chat", server, "says", fields={"n": 2})
    assert (refused["status"], refused["param"]) == (400, "n")


def test_wrong_key(client: Client, server: Server):
    refused = client.fails("chat", server, "says", key="sk-wrong")
    assert refused["status"] == 401
    assert "sk-wrong" not in refused["message"]


def test_busy_is_tried_three_times_after_the_wait_we_name(client: Client, server: Server):
    before, began = server.runs("busy"), time.monotonic()
    refused = client.fails("chat", server, "busy")
    assert (refused["status"], refused["type"]) == (429, "rate_limit_error")
    assert server.runs("busy") == before + 3
    assert time.monotonic() - began >= 2


@only("openai-python", "openai-node", "langchain")
def test_what_cannot_get_better_is_not_repeated(client: Client, server: Server):
    before = server.runs("locked")
    assert client.fails("chat", server, "locked")["status"] == 502
    assert server.runs("locked") == before + 1


def test_a_stream_that_breaks_is_an_error(client: Client, server: Server):
    broken = client.fails("stream", server, "dies")
    assert "died after 3 pieces" in broken["message"]
    assert (broken["type"], broken["code"]) == ("server_error", "broken_answer")


@only(*OPENAI)
def test_models(client: Client, server: Server):
    ids = client("models", server)["ids"]
    assert ids[0] == "default"
    assert {"says", "slow", "vectors"} <= set(ids)


@only(*OPENAI)
def test_embeddings_are_the_same_in_base64_and_as_numbers(client: Client, server: Server):
    packed = client("embed", server, "vectors", input=["abba", "xyz"])["vectors"]
    plain = client("embed", server, "vectors", input=["abba", "xyz"], format="float")["vectors"]
    assert len(plain) == 2
    for vector, same in zip(packed, plain, strict=True):
        assert vector == pytest.approx(same, abs=1e-6)


@only("ai-sdk", "langchain")
def test_embeddings(client: Client, server: Server):
    vectors = client("embed", server, "vectors", input=["abba", "xyz"])["vectors"]
    half = 0.5**0.5
    assert vectors[0] == pytest.approx([half, half, *[0] * 24], abs=1e-6)
    assert vectors[1][-3:] == pytest.approx([3**-0.5] * 3, abs=1e-6)


def test_real_weights(client: Client, local_server: Server):
    """The stop word ends the answer: openai-python's stream takes 'length' for a failure."""
    fields = {"max_tokens": 24, "temperature": 0, "stop": ["help"]}
    messages = said("Say hello.")
    done = client("stream", local_server, "smollm2", usage=True, messages=messages, fields=fields)
    assert done["text"].startswith("Hello")
    assert "help" not in done["text"]
    assert done["finish"] == "stop"
    assert done["pieces"] > 1
    assert 1 < done["usage"][1] < 24


@only("openai-python")
def test_real_weights_keep_to_a_schema(client: Client, local_server: Server):
    """Only the grammar can make this model say a name and a year, so any person will do."""
    fields = {"max_tokens": 60, "temperature": 0, "seed": 1}
    messages = said('Ada was born in 1815. Reply as {"name": "Ada", "born": 1815}')
    value = client("schema", local_server, "smollm2", strict=True, messages=messages, fields=fields)
    assert isinstance(value["value"]["born"], int)
