"""SmolLM2 from its GGUF file as safetensors: beside llama.cpp, the same prompt, the same answer.

llama.cpp multiplies in 8 bits, torch in 32, so answers part where two tokens are about as likely.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bicameral.engines.weights import locate
from bicameral.errors import WeightsError
from bicameral.types import Sampling
from tests.engines.hf.serving import hello, say, served
from tests.engines.models import opened

transformers = pytest.importorskip("transformers", reason="needs `make torch`: see the Makefile")
for _library in ("xllamacpp", "gguf"):
    pytest.importorskip(_library, reason=f"needs pip install {_library} beside torch")

SHORT = Sampling(max_tokens=20, temperature=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        file = locate("smollm2-135m")
    except WeightsError as error:
        pytest.skip(str(error))
    return unpacked(file, tmp_path_factory.mktemp("smollm2"))


def unpacked(file: Path, folder: Path) -> Path:
    how: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    packed = transformers.AutoModelForCausalLM.from_pretrained(file.parent, **how)
    plain = packed.config.to_dict()
    plain.pop("quantization_config", None)
    net = transformers.LlamaForCausalLM(transformers.LlamaConfig(**plain))
    net.load_state_dict(packed.state_dict())
    net.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(file.parent, **how).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_it_says_what_llama_cpp_says(folder: Path) -> None:
    async with (
        served(folder) as ours,
        opened("llama_cpp", weights="smollm2-135m", threads=1, context=512) as theirs,
    ):
        for text in ("What do cows drink?", "Name three colours."):
            one = await say(ours, hello(text, sampling=SHORT))
            other = await say(theirs, hello(text, sampling=SHORT))
            assert one.text[:30] == other.text[:30]
            assert one.usage.prompt_tokens == other.usage.prompt_tokens
