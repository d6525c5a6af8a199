"""Tiny nets with random weights in folders, as transformers saves them: what the tests run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CONTEXT = 512
CHAT = (
    "{% for message in messages %}{{ '<|start|>' + message.role + ':' + message.content }}"
    "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>' }}"
    "{% if shout %}{{ 'LOUD' }}{% endif %}{% if think %}{{ '<think>' }}{% endif %}{% endif %}"
)
SEEING = (
    "{% for message in messages %}{{ '<|start|>' + message.role + ':' }}"
    "{% for part in message.content %}{% if part.type == 'image' %}{{ '<image>' }}"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>' }}{% endif %}"
)
SPECIAL = ("<|start|>", "<|end|>", "<|pad|>", "<image>")
THOUGHT = ("<think>", "</think>")
HAN = "北".encode()  # three tokens, of which only all together are a character


def tokenizer(template: str | None = CHAT) -> Any:
    """One token a byte: what ASCII can print, and the bytes of one Chinese character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = bytes_to_unicode()
    known = [letters[byte] for byte in (*range(32, 127), 10, *sorted(HAN))]
    made = Tokenizer(models.BPE({letter: at for at, letter in enumerate(known)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token=SPECIAL[1],
        pad_token=SPECIAL[2],
        additional_special_tokens=[SPECIAL[0], SPECIAL[3]],
        clean_up_tokenization_spaces=False,
    )
    fast.add_tokens([*THOUGHT])
    fast.chat_template = template
    return fast


def _sizes(words: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(words),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,  # far apart, so that no two tokens are about as likely
        "bos_token_id": None,
        "eos_token_id": words.convert_tokens_to_ids(SPECIAL[1]),
        "tie_word_embeddings": False,
    }


def reader(folder: Path, template: str | None = CHAT, **config: Any) -> Path:
    """A Llama of three layers in `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(template)
    torch.manual_seed(1)
    net = LlamaForCausalLM(LlamaConfig(**{**_sizes(words), **config}))
    _printable(torch, net.lm_head.weight, words)
    net.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def seer(folder: Path) -> Path:
    """A Llava in `folder`: pictures of 32 pixels a side become 16 tokens."""
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    words = tokenizer(SEEING)
    eyes = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=32,
    )
    config = LlavaConfig(
        vision_config=eyes,
        text_config=LlamaConfig(**_sizes(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    torch.manual_seed(1)
    net = LlavaForConditionalGeneration(config)
    _printable(torch, net.lm_head.weight, words)
    net.save_pretrained(folder)
    processor = LlavaProcessor(
        _shrinks(),
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=SEEING,
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    return folder


def _shrinks() -> Any:
    """What makes pictures as small as the eyes are; without torchvision, Pillow does it."""
    import transformers

    kind = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    return kind(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def _printable(torch: Any, head: Any, words: Any) -> None:
    """Half a character and control tokens are left unlikely, as in a net that was taught."""
    with torch.no_grad():
        head[95:] = 0
        head[:, :] *= 2
