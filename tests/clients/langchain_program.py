"""langchain-openai behind JSON lines; runs in an environment of its own."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from lines import Call, Outcome, serve
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    born: int


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def chat_model(call: Call) -> ChatOpenAI:
    return ChatOpenAI(
        model=call["model"],
        base_url=call["url"],
        api_key=call["key"],
        extra_body=call.get("fields"),
        stream_usage=call.get("usage"),
    )


def outcome(message: Any, pieces: int = 1) -> Outcome:
    used = message.usage_metadata
    return {
        "text": message.text,
        "finish": message.response_metadata.get("finish_reason"),
        "usage": used and [used["input_tokens"], used["output_tokens"], used["total_tokens"]],
        "calls": [[c["name"], c["args"]] for c in message.tool_calls],
        "pieces": pieces,
    }


def chat(call: Call) -> Outcome:
    return outcome(chat_model(call).invoke(call["messages"]))


def stream(call: Call) -> Outcome:
    chunks = list(chat_model(call).stream(call["messages"]))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return outcome(whole, sum(bool(c.text) for c in chunks))


def cancel(call: Call) -> Outcome:
    chunks = chat_model(call).stream(call["messages"])
    first = next(c.text for c in chunks if c.text)
    chunks.close()
    return {"text": first}


def tools(call: Call) -> Outcome:
    """Two turns: the model's call, then its answer to the tool's result."""
    how = {"tool_choice": "get_weather", "parallel_tool_calls": False} if call["forced"] else {}
    model = chat_model(call).bind_tools([get_weather], **how)
    ask = (lambda m: sum_of(model.stream(m))) if call["streamed"] else model.invoke
    asked = ask(call["messages"])
    results = [
        ToolMessage(get_weather(**c["args"]), tool_call_id=c["id"]) for c in asked.tool_calls
    ]
    answer = ask([*call["messages"], asked, *results])
    return outcome(answer) | {"calls": outcome(asked)["calls"]}


def sum_of(chunks: Any) -> Any:
    whole = next(chunks)
    for chunk in chunks:
        whole = whole + chunk
    return whole


def schema(call: Call) -> Outcome:
    how = "json_schema" if call["strict"] else "json_mode"
    person = chat_model(call).with_structured_output(Person, method=how).invoke(call["messages"])
    return {"value": person.model_dump()}


def embed(call: Call) -> Outcome:
    """With the length check on, it would send token ids instead of text."""
    embeddings = OpenAIEmbeddings(
        model=call["model"],
        base_url=call["url"],
        api_key=call["key"],
        check_embedding_ctx_length=False,
        model_kwargs={"encoding_format": call["format"]} if call.get("format") else {},
    )
    return {"vectors": embeddings.embed_documents(call["input"])}


if __name__ == "__main__":
    serve(chat, stream, cancel, tools, schema, embed)
