"""The shape of a language model: what its weights, its cache and its arithmetic amount to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bicameral.errors import ConfigError

# State that a linear-attention layer keeps is in 32 bits, whatever the cache's format.
_STATE_BYTES = 4.0


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decoder's shape in numbers of parameters and elements; sums are over all layers.

    `always`: parameters that every token passes, without experts, embedding and head. `expert`:
    one expert's. `cached`: elements kept for a token in one layer that attends; `windowed` such
    layers keep only `window` tokens, and `linear` layers keep `state` bytes in all instead.
    `splits`: into how many parts the cache can be cut (1 if latent). `reach`: multiply-adds for a
    token and one token before it in one layer, when decoding; `reach_prefill` when reading.
    """

    name: str
    layers: int
    hidden: int
    vocab: int
    always: float
    head: float
    embedding: float
    experts: int = 0
    chosen: int = 0
    expert: float = 0.0
    moe_layers: int = 0
    cached: float
    attending: int
    windowed: int = 0
    window: int = 0
    linear: int = 0
    state: float = 0.0
    splits: int
    reach: float
    reach_prefill: float

    @property
    def parameters(self) -> float:
        """All that must be kept in memory."""
        return self.always + self.head + self.embedding + self.expert * self.experts

    @property
    def active(self) -> float:
        """Those that one token is multiplied with."""
        return self.always + self.head + self.expert * self.chosen

    def covered(self, tokens: float) -> float:
        """The share of experts that `tokens` tokens touch, if each chooses evenly by itself."""
        if not self.experts:
            return 0.0
        missed: float = (1 - self.chosen / self.experts) ** tokens
        return 1 - missed

    def kept(self, tokens: float, bytes_each: float) -> float:
        """Bytes that a sequence of `tokens` tokens keeps in memory."""
        seen = min(tokens, self.window) if self.window else tokens
        return (
            bytes_each * self.cached * (self.attending * tokens + self.windowed * seen) + self.state
        )


def of_config(name: str, table: Mapping[str, Any]) -> Network:
    """A model's shape from its config.json, of the families that this reads.

    Grouped-query and latent (MLA) attention, sliding windows, gated linear attention, dense,
    shared and routed experts. Raises ConfigError for one that lacks what is needed.
    """
    table = {**table, **table.get("text_config", {})}
    try:
        return _of(name, table)
    except KeyError as error:
        raise ConfigError(f"the config of {name} has no {error}: its shape is unknown") from error


def of_gguf(name: str, metadata: Mapping[str, Any]) -> Network:
    """A model's shape from the metadata of its GGUF file (keys as `llama.block_count`).

    Which layers have a sliding window the file does not say: their cache is counted in full, as
    are embedding and head, even where they are one. Raises ConfigError as `of_config` does.
    """
    family = str(metadata.get("general.architecture", ""))
    own = {
        key.removeprefix(f"{family}."): value
        for key, value in metadata.items()
        if key.startswith(f"{family}.")
    }
    table = {ours: _alike(name, theirs, own) for theirs, ours in _GGUF.items() if theirs in own}
    if "kv_lora_rank" in table:
        table |= _latent_sizes(own)
    words = metadata.get("tokenizer.ggml.tokens")
    if "vocab_size" not in table and words is not None:
        table["vocab_size"] = len(words)
    return of_config(name, table)


_GGUF = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.kv_lora_rank": "kv_lora_rank",
    "attention.q_lora_rank": "q_lora_rank",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "n_shared_experts",
    "leading_dense_block_count": "first_k_dense_replace",
    "vocab_size": "vocab_size",
}


def _alike(name: str, key: str, own: Mapping[str, Any]) -> Any:
    """A value of all layers; some files list one for each."""
    value = own[key]
    if not isinstance(value, list):
        return value
    if len(set(value)) != 1:
        raise ConfigError(f"{name}: the layers differ in {key}, which this does not read yet")
    return value[0]


def _latent_sizes(own: Mapping[str, Any]) -> dict[str, int]:
    """A latent attention's head sizes: the newer files keep the unpacked ones under other keys."""
    rope = int(own["rope.dimension_count"])
    key = int(_first(own, "attention.key_length_mla", "attention.key_length"))
    value = int(_first(own, "attention.value_length_mla", "attention.value_length"))
    return {"qk_rope_head_dim": rope, "qk_nope_head_dim": key - rope, "v_head_dim": value}


def _first(table: Mapping[str, Any], *keys: str) -> Any:
    return next((table[k] for k in keys if table.get(k) is not None), None)


def _of(name: str, table: Mapping[str, Any]) -> Network:
    layers, hidden, vocab = (
        int(table[k]) for k in ("num_hidden_layers", "hidden_size", "vocab_size")
    )
    attention = _latent(table) if table.get("kv_lora_rank") else _grouped(table)
    linear, state, mixing = _linear(table)
    windowed = _windowed(table)
    feed = _feed(table)
    own = attention.pop("own")
    return Network(
        name=name,
        layers=layers,
        hidden=hidden,
        vocab=vocab,
        always=own * (layers - linear) + mixing * linear + feed.pop("always"),
        head=float(hidden * vocab),
        embedding=0.0 if table.get("tie_word_embeddings") else float(hidden * vocab),
        attending=layers - linear - windowed,
        windowed=windowed,
        window=int(table.get("sliding_window") or 0) if windowed else 0,
        linear=linear,
        state=state * linear,
        **attention,
        **feed,
    )


def _grouped(table: Mapping[str, Any]) -> dict[str, Any]:
    """One layer of grouped-query attention."""
    hidden, heads = int(table["hidden_size"]), int(table["num_attention_heads"])
    kv = int(table.get("num_key_value_heads") or heads)
    size = int(table.get("head_dim") or hidden // heads)
    gates = 3 if table.get("attn_output_gate") else 2
    return {
        "own": hidden * size * (gates * heads + 2 * kv),
        "cached": 2.0 * kv * size,
        "splits": kv,
        "reach": 2.0 * heads * size,
        "reach_prefill": 2.0 * heads * size,
    }


def _latent(table: Mapping[str, Any]) -> dict[str, Any]:
    """One layer of latent attention (DeepSeek's MLA): decoding attends in the latent space."""
    hidden, heads = int(table["hidden_size"]), int(table["num_attention_heads"])
    latent, rope = int(table["kv_lora_rank"]), int(table["qk_rope_head_dim"])
    flat, value = int(table["qk_nope_head_dim"]), int(table["v_head_dim"])
    asked = int(table.get("q_lora_rank") or 0)
    query = asked * (hidden + heads * (flat + rope)) if asked else hidden * heads * (flat + rope)
    keys = hidden * (latent + rope) + latent * heads * (flat + value)
    return {
        "own": query + keys + heads * value * hidden,
        "cached": float(latent + rope),
        "splits": 1,
        "reach": float(heads * (2 * latent + rope)),
        "reach_prefill": float(heads * (flat + rope + value)),
    }


def _windowed(table: Mapping[str, Any]) -> int:
    """How many layers attend within a sliding window."""
    if not table.get("sliding_window") or table.get("use_sliding_window") is False:
        return 0
    kinds = table.get("layer_types")
    if kinds:
        return sum("sliding" in kind for kind in kinds)
    return int(table["num_hidden_layers"])


def _linear(table: Mapping[str, Any]) -> tuple[int, float, float]:
    """Linear-attention layers, the bytes of one's state, and the parameters of one."""
    count = sum("linear" in kind for kind in table.get("layer_types") or ())
    if not count:
        return 0, 0.0, 0.0
    hidden, keys = int(table["hidden_size"]), int(table["linear_num_key_heads"])
    values, key, value = (
        int(table[f"linear_{k}"]) for k in ("num_value_heads", "key_head_dim", "value_head_dim")
    )
    inward = 2 * keys * key + 2 * values * value
    return count, _STATE_BYTES * values * key * value, float(hidden * (inward + values * value))


def _feed(table: Mapping[str, Any]) -> dict[str, Any]:
    """The feed-forward part of all layers: dense, shared and routed."""
    layers, hidden = int(table["num_hidden_layers"]), int(table["hidden_size"])
    experts = int(_first(table, "num_experts", "n_routed_experts", "num_local_experts") or 0)
    if not experts:
        return {"always": 3.0 * hidden * int(table["intermediate_size"]) * layers}
    size = int(_first(table, "moe_intermediate_size", "intermediate_size") or 0)
    shared = _first(table, "shared_expert_intermediate_size")
    if shared is None:
        shared = size * int(table.get("n_shared_experts") or 0)
    first = int(table.get("first_k_dense_replace") or 0)
    moe = layers - first
    dense = 3 * hidden * int(table["intermediate_size"]) * first if first else 0
    return {
        "always": float(dense + moe * hidden * (3 * int(shared) + experts)),
        "experts": experts,
        "chosen": int(table["num_experts_per_tok"]),
        "expert": 3.0 * hidden * size * moe,
        "moe_layers": moe,
    }
