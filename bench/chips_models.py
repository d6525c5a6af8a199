"""Shapes of the models that the published measurements name, as their config.json has them."""

from __future__ import annotations

from functools import cache
from typing import Any

from bicameral.chips.network import Network, of_config


def _dense(layers: int, hidden: int, heads: int, kv: int, inner: int, words: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": 128,
        "intermediate_size": inner,
        "vocab_size": words,
    }


def _moe(experts: int, chosen: int, size: int, shared: int = 0, first: int = 0) -> dict[str, Any]:
    return {
        "num_experts": experts,
        "num_experts_per_tok": chosen,
        "moe_intermediate_size": size,
        "n_shared_experts": shared,
        "first_k_dense_replace": first,
    }


def _latent(query: int, flat: int, value: int) -> dict[str, Any]:
    return {
        "q_lora_rank": query,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": flat,
        "v_head_dim": value,
    }


def _alternating(layers: int) -> dict[str, Any]:
    return {
        "head_dim": 64,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
    }


_LINEAR = {
    "head_dim": 256,
    "attn_output_gate": True,
    "layer_types": ["linear_attention"] * 45 + ["full_attention"] * 15,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 64,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
}
_MLA = _latent(1536, 128, 128)
_V3 = _dense(61, 7168, 128, 128, 18432, 129280) | _MLA | _moe(256, 8, 2048, 1, 3)
CONFIGS: dict[str, dict[str, Any]] = {
    "Llama-3.1-8B": _dense(32, 4096, 32, 8, 14336, 128256),
    "Llama-3.1-70B": _dense(80, 8192, 64, 8, 28672, 128256),
    "Llama-3.1-405B": _dense(126, 16384, 128, 8, 53248, 128256),
    "Llama-2-70B": _dense(80, 8192, 64, 8, 28672, 32000),
    "Mixtral-8x7B": _dense(32, 4096, 32, 8, 14336, 32000) | _moe(8, 2, 14336),
    "Qwen3-8B": _dense(36, 4096, 32, 8, 12288, 151936),
    "Qwen3-14B": _dense(40, 5120, 40, 8, 17408, 151936),
    "Qwen3-32B": _dense(64, 5120, 64, 8, 25600, 151936),
    "Qwen3-30B-A3B": _dense(48, 2048, 32, 4, 6144, 151936) | _moe(128, 8, 768),
    "Qwen3-235B": _dense(94, 4096, 64, 4, 12288, 151936) | _moe(128, 8, 1536),
    "Qwen3.5-397B": _dense(60, 4096, 32, 2, 0, 248320)
    | _moe(512, 10, 1024)
    | {"shared_expert_intermediate_size": 1024}
    | _LINEAR,
    "gpt-oss-20b": _dense(24, 2880, 64, 8, 2880, 201088) | _moe(32, 4, 2880) | _alternating(24),
    "gpt-oss-120b": _dense(36, 2880, 64, 8, 2880, 201088) | _moe(128, 4, 2880) | _alternating(36),
    "DeepSeek": _V3,
    "Kimi-K2.5": _dense(61, 7168, 64, 64, 18432, 163840) | _MLA | _moe(384, 8, 2048, 1, 1),
    "GLM-5": _dense(78, 6144, 64, 64, 12288, 154880)
    | _latent(2048, 192, 256)
    | _moe(256, 8, 2048, 1, 3),
    "GLM-4.5-Air": _dense(46, 4096, 96, 8, 10944, 151552) | _moe(128, 8, 1408, 1, 1),
    "GLM-4.6": _dense(92, 5120, 96, 8, 12288, 151552) | _moe(160, 8, 1536, 1, 3),
    "MiniMax-M2.5": _dense(62, 3072, 48, 8, 1536, 200064) | _moe(256, 8, 1536),
}


@cache
def network(name: str) -> Network:
    return of_config(name, CONFIGS[name])
