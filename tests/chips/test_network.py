from __future__ import annotations

import pytest

from bicameral.chips.network import of_config, of_gguf
from bicameral.errors import ConfigError
from tests.chips.shapes import DEEPSEEK_V3, GPT_OSS, LLAMA_8B, LLAMA_70B


@pytest.mark.parametrize(
    ("table", "billions", "active"),
    [
        (LLAMA_8B, 8.03, 7.5),
        (LLAMA_70B, 70.55, 69.5),
        (DEEPSEEK_V3, 671, 36.6),
        (GPT_OSS, 117, 5.1),
    ],
)
def test_parameters_are_those_of_the_model(
    table: dict[str, object], billions: float, active: float
) -> None:
    network = of_config("it", table)
    assert network.parameters / 1e9 == pytest.approx(billions, rel=0.005)
    assert network.active / 1e9 == pytest.approx(active, rel=0.01)


def test_routers_and_shared_experts_pass_every_token() -> None:
    layer = 3 * 7168 * 2048 + 256 * 7168
    bare = DEEPSEEK_V3 | {"n_shared_experts": 0}
    narrow = bare | {"n_routed_experts": 128}
    always = [of_config("it", t).always for t in (DEEPSEEK_V3, bare, narrow)]
    assert always[0] - always[1] == 58 * (layer - 256 * 7168)
    assert always[1] - always[2] == 58 * 128 * 7168


def test_what_a_sequence_keeps() -> None:
    grouped, latent = of_config("8B", LLAMA_8B), of_config("V3", DEEPSEEK_V3)
    assert grouped.kept(1, 2.0) == 2 * 2 * 32 * 8 * 128
    assert latent.kept(1, 2.0) == 2 * 61 * 576
    assert (grouped.splits, latent.splits) == (8, 1)


def test_a_window_keeps_no_more_than_itself() -> None:
    network = of_config("oss", GPT_OSS)
    assert (network.attending, network.windowed) == (18, 18)
    far, near = network.kept(10_000, 2.0), network.kept(100, 2.0)
    assert near == 2 * 2 * 8 * 64 * 36 * 100
    assert far == 2 * 2 * 8 * 64 * 18 * (10_000 + 128)


def test_linear_layers_keep_a_state_whatever_the_length() -> None:
    linear = {
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "num_hidden_layers": 4,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
    }
    network = of_config("hybrid", LLAMA_8B | linear)
    state = 3 * 4 * 32 * 128 * 128
    assert network.kept(0, 2.0) == state
    assert network.kept(1000, 2.0) - state == 2 * 2 * 8 * 128 * 1000


def test_experts_touched_by_a_batch() -> None:
    network = of_config("V3", DEEPSEEK_V3)
    assert network.covered(1) == pytest.approx(8 / 256)
    assert network.covered(64) == pytest.approx(1 - (1 - 8 / 256) ** 64)
    assert of_config("8B", LLAMA_8B).covered(64) == 0


def test_gguf_metadata_says_the_same() -> None:
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 32,
        "llama.embedding_length": 4096,
        "llama.feed_forward_length": 14336,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "llama.vocab_size": 128256,
    }
    assert of_gguf("8B", metadata) == of_config("8B", LLAMA_8B)
    del metadata["llama.vocab_size"]
    words = metadata | {"tokenizer.ggml.tokens": ["a"] * 128256}
    assert of_gguf("8B", words).vocab == 128256


def test_gguf_with_values_for_each_layer() -> None:
    metadata = {"general.architecture": "llama", "llama.vocab_size": 128256} | {
        "llama.block_count": 32,
        "llama.embedding_length": 4096,
        "llama.feed_forward_length": [14336] * 32,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": [8] * 32,
    }
    assert of_gguf("8B", metadata) == of_config("8B", LLAMA_8B)
    metadata["llama.attention.head_count_kv"] = [8] * 31 + [4]
    with pytest.raises(ConfigError, match="the layers differ"):
        of_gguf("8B", metadata)


def test_gguf_of_latent_attention() -> None:
    own = {
        "block_count": 61,
        "embedding_length": 7168,
        "feed_forward_length": 18432,
        "attention.head_count": 128,
        "attention.key_length": 576,
        "attention.value_length": 512,
        "attention.key_length_mla": 192,
        "attention.value_length_mla": 128,
        "attention.q_lora_rank": 1536,
        "attention.kv_lora_rank": 512,
        "rope.dimension_count": 64,
        "expert_count": 256,
        "expert_used_count": 8,
        "expert_feed_forward_length": 2048,
        "expert_shared_count": 1,
        "leading_dense_block_count": 3,
        "vocab_size": 129280,
    }
    metadata = {f"deepseek2.{k}": v for k, v in own.items()}
    found = of_gguf("V3", metadata | {"general.architecture": "deepseek2"})
    assert found == of_config("V3", DEEPSEEK_V3)


def test_a_config_that_lacks_its_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no 'num_hidden_layers'"):
        of_config("it", {"hidden_size": 1, "vocab_size": 1})


def test_the_text_part_of_a_model_that_sees() -> None:
    assert of_config("8B", {"text_config": LLAMA_8B}) == of_config("8B", LLAMA_8B)
