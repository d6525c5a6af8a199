"""openai-python behind JSON lines."""

from __future__ import annotations

import json
from typing import Any

from lines import Call, Outcome, serve
from openai import OpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    born: int


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
FORCED = {"type": "function", "function": {"name": "get_weather"}}


def client(call: Call) -> OpenAI:
    return OpenAI(base_url=call["url"], api_key=call["key"])


def body(call: Call) -> dict[str, Any]:
    return {"model": call["model"], "messages": call["messages"], "extra_body": call.get("fields")}


def outcome(completion: ChatCompletion, pieces: int = 1) -> Outcome:
    choice = completion.choices[0]
    used = completion.usage
    return {
        "text": choice.message.content or "",
        "reasoning": getattr(choice.message, "reasoning_content", ""),
        "finish": choice.finish_reason,
        "usage": used and [used.prompt_tokens, used.completion_tokens, used.total_tokens],
        "calls": calls(choice.message),
        "pieces": pieces,
    }


def calls(message: Any) -> list[list[Any]]:
    return [[c.function.name, json.loads(c.function.arguments)] for c in message.tool_calls or ()]


def chat(call: Call) -> Outcome:
    with client(call) as api:
        done = api.chat.completions.create(**body(call))
    return outcome(done) | {"request_id": done._request_id}


def stream(call: Call) -> Outcome:
    asked = {"stream_options": {"include_usage": True}} if call.get("usage") else {}
    pieces = empty = 0
    with client(call) as api, api.chat.completions.stream(**body(call), **asked) as events:
        for event in events:
            if event.type == "chunk":
                choices = event.chunk.choices
                empty += not choices
                pieces += bool(choices and choices[0].delta.content)
        done = events.get_final_completion()
    return outcome(done, pieces) | {"empty": empty}


def cancel(call: Call) -> Outcome:
    api = client(call)
    with api.chat.completions.create(**body(call), stream=True) as chunks:
        said = (c.choices[0].delta.content for c in chunks)
        return {"text": next(text for text in said if text)}


def tools(call: Call) -> Outcome:
    """Two turns: the model's call, then its answer to the tool's result."""
    forced = {"tool_choice": FORCED, "parallel_tool_calls": False} if call["forced"] else {}
    asked = turn(call, call["messages"], forced)
    results = [
        {
            "role": "tool",
            "tool_call_id": c.id,
            "content": f"sunny in {json.loads(c.function.arguments)['city']}",
        }
        for c in asked.tool_calls
    ]
    answer = turn(call, [*call["messages"], asked, *results], {})
    return {"text": answer.content, "calls": calls(asked)}


def turn(call: Call, messages: list[Any], fields: dict[str, Any]) -> Any:
    request = body(call) | {"messages": messages, "tools": [WEATHER]} | fields
    with client(call) as api:
        if not call["streamed"]:
            return api.chat.completions.create(**request).choices[0].message
        with api.chat.completions.stream(**request) as events:
            return events.get_final_completion().choices[0].message


def schema(call: Call) -> Outcome:
    with client(call) as api:
        if call["strict"]:
            done = api.chat.completions.parse(**body(call), response_format=Person)
            return {"value": done.choices[0].message.parsed.model_dump()}
        any_object = {"type": "json_object"}
        done = api.chat.completions.create(**body(call), response_format=any_object)
    return {"value": Person.model_validate_json(done.choices[0].message.content).model_dump()}


def again(call: Call) -> Outcome:
    """Send a parsed answer back as it came, then ask on."""
    with client(call) as api:
        first = api.chat.completions.parse(**body(call), response_format=Person)
        messages = [*call["messages"], first.choices[0].message, *call["messages"]]
        return outcome(api.chat.completions.create(**body(call) | {"messages": messages}))


def embed(call: Call) -> Outcome:
    asked = {"encoding_format": call["format"]} if call.get("format") else {}
    with client(call) as api:
        made = api.embeddings.create(model=call["model"], input=call["input"], **asked)
    return {"vectors": [d.embedding for d in made.data]}


def models(call: Call) -> Outcome:
    with client(call) as api:
        return {"ids": [model.id for model in api.models.list()]}


if __name__ == "__main__":
    serve(chat, stream, cancel, tools, schema, again, embed, models)
