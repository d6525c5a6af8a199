"""The same weights under another engine: a llama GGUF run by CTranslate2 behind OpenAI's API.

    python bench/bakeoff_ct2.py WEIGHTS [--threads 1] [--format int8] [--port 0]

Reads the tensors back to 32 bits, writes them as CTranslate2's in --format and serves streamed
chat completions on loopback, one at a time, at temperature 0. For bench/bakeoff.py; takes Q4_1,
Q6_K, Q8_0, F16 and F32 tensors of the llama architecture. Wants the extra `hear`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import uvicorn
from ctranslate2.converters.utils import fuse_linear
from ctranslate2.specs import common_spec, transformer_spec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from bicameral.engines.llama.gguf import _fields, _Reader
from bicameral.engines.weights import locate

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


# --- GGUF (github.com/ggml-org/ggml/blob/master/docs/gguf.md; blocks: ggml-common.h) -------------


def _floats(raw: np.ndarray, kind: int) -> np.ndarray:
    """The numbers of `raw` bytes in ggml's format `kind`, as 32-bit floats."""
    if kind in (0, 1):
        return raw.view(np.float32 if kind == 0 else np.float16).astype(np.float32)
    return {3: _q4_1, 8: _q8_0, 14: _q6_k}[kind](raw).reshape(-1)


def _half(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def _q4_1(raw: np.ndarray) -> np.ndarray:
    """Blocks of 32: scale, minimum, then low nibbles, then high ones."""
    blocks = raw.reshape(-1, 20)
    packed = blocks[:, 4:]
    values = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
    return values * _half(blocks[:, :2]) + _half(blocks[:, 2:4])


def _q8_0(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 34)
    return np.ascontiguousarray(blocks[:, 2:]).view(np.int8) * _half(blocks[:, :2])


def _q6_k(raw: np.ndarray) -> np.ndarray:
    """Blocks of 256 in two halves: 4 low bits, 2 high bits, a scale for 16 each, one for all."""
    blocks = raw.reshape(-1, 210)
    low = blocks[:, :128].reshape(-1, 2, 2, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).reshape(-1, 2, 8, 1)
    four = np.concatenate([low & 15, low >> 4], axis=2)
    two = (high >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)) & 3
    whole = (four | (two << 4)).astype(np.float32) - 32
    scaled = whole.reshape(-1, 2, 8, 16) * scales
    return scaled.reshape(-1, 256) * _half(blocks[:, 208:210])


_BYTES = {0: (1, 4), 1: (1, 2), 3: (32, 20), 8: (32, 34), 14: (256, 210)}


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header's fields, and every tensor by name."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    count = int.from_bytes(data[8:16], "little")
    reader = _Reader(data)
    fields = _fields(reader)
    told = [_tensor(reader) for _ in range(count)]
    start = -(-reader._at // 32) * 32
    tensors = {}
    for name, shape, kind, offset in told:
        each, size = _BYTES[kind]
        raw = np.frombuffer(data, np.uint8, int(np.prod(shape)) // each * size, start + offset)
        tensors[name] = _floats(raw, kind).reshape(shape)
    return fields, tensors


def _tensor(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    name = reader.bytes().decode()
    shape = [reader.number("<Q") for _ in range(reader.number("<I"))]
    return name, tuple(reversed(shape)), reader.number("<I"), reader.number("<Q")


# --- CTranslate2 -------------------------------------------------------------------------------


def _linear(weight: np.ndarray) -> common_spec.LinearSpec:
    spec = common_spec.LinearSpec()
    spec.weight = weight
    return spec


def convert(fields: dict[str, Any], tensors: dict[str, np.ndarray], to: Path, kind: str) -> None:
    """Write CTranslate2's model; GGUF has queries and keys ready for rotation in pairs."""
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        fields["llama.block_count"],
        fields["llama.attention.head_count"],
        activation=common_spec.Activation.SWISH,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=True,
        rotary_base=fields["llama.rope.freq_base"],
        num_heads_kv=fields["llama.attention.head_count_kv"],
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = tensors["token_embd.weight"]
    decoder.layer_norm.gamma = tensors["output_norm.weight"]
    decoder.projection.weight = tensors.get("output.weight", tensors["token_embd.weight"])
    for number, layer in enumerate(decoder.layer):
        at = partial("blk.{}.{}.weight".format, number)
        layer.self_attention.layer_norm.gamma = tensors[at("attn_norm")]
        layer.ffn.layer_norm.gamma = tensors[at("ffn_norm")]
        parts = [_linear(tensors[at(f"attn_{x}")]) for x in "qkv"]
        fuse_linear(layer.self_attention.linear[0], parts)
        layer.self_attention.linear[1].weight = tensors[at("attn_output")]
        layer.ffn.linear_0.weight = tensors[at("ffn_gate")]
        layer.ffn.linear_0_noact.weight = tensors[at("ffn_up")]
        layer.ffn.linear_1.weight = tensors[at("ffn_down")]
    tokens = _texts(fields["tokenizer.ggml.tokens"])
    spec.register_vocabulary(tokens)
    spec.config.bos_token = tokens[fields["tokenizer.ggml.bos_token_id"]]
    spec.config.eos_token = tokens[fields["tokenizer.ggml.eos_token_id"]]
    spec.config.unk_token = tokens[fields["tokenizer.ggml.unknown_token_id"]]
    spec.config.layer_norm_epsilon = fields["llama.attention.layer_norm_rms_epsilon"]
    spec.validate()
    spec.optimize(quantization=kind)
    to.mkdir()
    spec.save(str(to))


def _texts(row: Any) -> list[str]:
    return [text.decode() if isinstance(text, bytes) else text for text in row]


def tokenizer(fields: dict[str, Any]) -> Tokenizer:
    """The byte-level BPE of the GGUF; digits stand alone, as in SmolLM."""
    tokens = _texts(fields["tokenizer.ggml.tokens"])
    merges = [tuple(pair.split(" ")) for pair in _texts(fields["tokenizer.ggml.merges"])]
    made = Tokenizer(models.BPE({text: n for n, text in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    made.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    made.add_special_tokens(
        [AddedToken(t, special=True) for t, kind in zip(tokens, kinds, strict=True) if kind == 3]
    )
    return made


class Engine:
    """One model; `answer` yields (text, tokens so far) and is for one thread at a time."""

    def __init__(self, weights: str, kind: str, threads: int) -> None:
        fields, tensors = read(locate(weights))
        with tempfile.TemporaryDirectory() as folder:
            convert(fields, tensors, Path(folder, "model"), kind)
            self._generator = ctranslate2.Generator(
                str(Path(folder, "model")), compute_type=kind, intra_threads=threads
            )
        self._tokenizer = tokenizer(fields)
        self._one = threading.Lock()

    def prompt(self, messages: list[dict[str, Any]]) -> list[str]:
        """As the chat template of SmolLM2 writes it."""
        if messages[0]["role"] != "system":
            messages = [{"role": "system", "content": SYSTEM}, *messages]
        turns = "".join(f"<|im_start|>{m['role']}\n{_said(m)}<|im_end|>\n" for m in messages)
        encoded = self._tokenizer.encode(f"{turns}<|im_start|>assistant\n")
        return list(encoded.tokens)

    def answer(self, prompt: list[str], most: int) -> Iterator[tuple[str, int]]:
        said: list[int] = []
        told = ""
        with self._one:
            for step in self._generator.generate_tokens(prompt, max_length=most):
                said.append(step.token_id)
                text = self._tokenizer.decode(said)
                if text.endswith("\ufffd"):
                    continue
                yield text[len(told) :], len(said)
                told = text


def _said(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


# --- the server --------------------------------------------------------------------------------


async def _stream(engine: Engine, name: str, body: dict[str, Any]) -> AsyncIterator[str]:
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[tuple[str, int] | None]()
    prompt = engine.prompt(body["messages"])
    most = body.get("max_tokens") or body.get("max_completion_tokens") or 256

    def work() -> None:
        try:
            for piece in engine.answer(prompt, most):
                loop.call_soon_threadsafe(pieces.put_nowait, piece)
        finally:
            loop.call_soon_threadsafe(pieces.put_nowait, None)

    threading.Thread(target=work, daemon=True).start()
    base = {"id": "c", "object": "chat.completion.chunk", "created": int(time.time())}
    base["model"] = name
    count = 0
    while (piece := await pieces.get()) is not None:
        text, count = piece
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        yield f"data: {json.dumps({**base, 'choices': [choice]})}\n\n"
    end = {"index": 0, "delta": {}, "finish_reason": "length" if count >= most else "stop"}
    yield f"data: {json.dumps({**base, 'choices': [end]})}\n\n"
    used = {"prompt_tokens": len(prompt), "completion_tokens": count}
    used["total_tokens"] = sum(used.values())
    yield f"data: {json.dumps({**base, 'choices': [], 'usage': used})}\n\ndata: [DONE]\n\n"


def application(engine: Engine, name: str) -> Starlette:
    async def chat(request: Request) -> StreamingResponse:
        body = await request.json()
        return StreamingResponse(_stream(engine, name, body), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--format", default="int8")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--try", dest="ask", help="answer this and stop")
    args = parser.parse_args()
    engine = Engine(args.weights, args.format, args.threads)
    if args.ask:
        prompt = engine.prompt([{"role": "user", "content": args.ask}])
        print(len(prompt), "".join(text for text, _ in engine.answer(prompt, 64)))
        return
    uvicorn.run(
        application(engine, args.weights), port=args.port, log_level="error", access_log=False
    )


if __name__ == "__main__":
    main()
