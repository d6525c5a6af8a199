"""Requests to the tensors that a net takes, by the chat template of its tokenizer or processor.

Text of a message never acts as a control token; see llama/wire.py on how. Pictures come as bytes
and are unpacked within bounds before the processor sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from bicameral.engines.hf.load import EXTRA, Loaded, first_line
from bicameral.engines.llama.wire import cleaner
from bicameral.engines.media import picture
from bicameral.engines.media.optional import library
from bicameral.errors import Rejected, RequestError, Unsupported
from bicameral.types import Image, Message, Part, Reasoning, Request, Text, ToolCall, ToolResult

_KNOWN = ("input_ids", "attention_mask")
_PIXELS = 16_000_000  # a picture with more is made smaller first; nets see far fewer


class Prompts:
    """Makes prompts for the model called `name`; `template` replaces its own chat template."""

    def __init__(self, name: str, loaded: Loaded, *, sees: bool, template: str | None) -> None:
        self._name = name
        self._loaded = loaded
        self._sees = sees
        self._template = template
        added = loaded.tokenizer.added_tokens_decoder.values()
        control = {token.content for token in added if token.special}
        self._clean = cleaner(sorted(control | set(loaded.tokenizer.all_special_tokens)))

    @property
    def templated(self) -> bool:
        """Whether it has a chat template."""
        return bool(self._template or getattr(self._loaded.writer, "chat_template", None))

    def tensors(self, request: Request) -> dict[str, Any]:
        """What the net takes, on its device.

        Raises RequestError for what is wrong in the conversation, Rejected if the template does
        not take such a one.
        """
        jinja = library("jinja2", extra=EXTRA)
        chosen, messages = self._switches(request), [self._message(it) for it in request.messages]
        try:
            made = self._loaded.writer.apply_chat_template(
                messages,
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                **chosen,
            )
        except (jinja.TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise Rejected(
                self._name,
                f"its chat template does not take this conversation: {first_line(error)}",
                param="messages",
            ) from error
        return {key: self._placed(it) for key, it in made.items() if self._sees or key in _KNOWN}

    def _switches(self, request: Request) -> dict[str, Any]:
        """What the request sets of the template's own; RequestError for what is ours to set."""
        chosen: dict[str, Any] = request.extra.get("chat_template_kwargs", {})
        ours = signature(self._loaded.writer.apply_chat_template).parameters.keys()
        if taken := sorted(ours & chosen.keys()):
            raise RequestError(
                f"chat_template_kwargs: {taken[0]} cannot be set by a request",
                param="chat_template_kwargs",
                code="invalid_value",
            )
        return chosen

    def _placed(self, values: Any) -> Any:
        """Pictures are scaled numbers, in the precision of the net."""
        if not isinstance(values, self._loaded.torch.Tensor):
            return values
        dtype = self._loaded.net.dtype if values.is_floating_point() else values.dtype
        return values.to(self._loaded.device, dtype)

    def _message(self, message: Message) -> dict[str, Any]:
        role = "system" if message.role == "developer" else message.role
        made: dict[str, Any] = {"role": role, "content": self._content(message.parts)}
        calls = [self._call(part) for part in message.parts if isinstance(part, ToolCall)]
        thoughts = "".join(part.text for part in message.parts if isinstance(part, Reasoning))
        if calls:
            made["tool_calls"] = calls
        if thoughts:
            made["reasoning_content"] = self._clean(thoughts)
        return made

    def _content(self, parts: Sequence[Part]) -> str | list[dict[str, Any]]:
        """A string for a net that reads only; neighbouring texts are joined before cleaning."""
        if not self._sees:
            return self._clean(joined(parts))
        made: list[dict[str, Any]] = []
        run: list[Part] = []
        for part in parts:
            if isinstance(part, Image):
                made += [*self._text(run), {"type": "image", "image": unpacked(part)}]
                run = []
            else:
                run.append(part)
        return [*made, *self._text(run)]

    def _text(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        text = self._clean(joined(parts))
        return [{"type": "text", "text": text}] if text else []

    def _call(self, call: ToolCall) -> dict[str, Any]:
        function = {"name": self._clean(call.name), "arguments": self._clean(call.arguments)}
        return {"id": call.id, "type": "function", "function": function}


def joined(parts: Sequence[Part]) -> str:
    """The text of `parts`; RequestError if it is no Unicode."""
    text = "".join(part.text for part in parts if isinstance(part, Text | ToolResult))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            "messages: a text is not valid Unicode (a lone surrogate)", param="messages"
        ) from error
    return text


def unpacked(image: Image) -> Any:
    """The pixels of a picture for a processor; RequestError if they cannot be had."""
    if image.data is None:
        raise Unsupported(
            "a local model does not fetch images: send the bytes (a data: URL), not an address",
            param="messages",
            code="unsupported",
        )
    return library("PIL.Image").fromarray(picture.decode(image.data, most=_PIXELS))
