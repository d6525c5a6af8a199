"""One answer of a net, from the prompt to the last token, in a thread that it blocks.

The loop is transformers' own generate(), so that caches, positions and pictures are handled as each
architecture needs; what it asks after every step, which token comes next and whether to go on, is
answered here. A run is cancelled between two layers, so also in the middle of a long prompt.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bicameral.engines.hf.draw import Draw, Wish, told
from bicameral.engines.hf.folder import Folder
from bicameral.engines.hf.load import EXTRA, Loaded, first_line
from bicameral.engines.hf.prompt import Prompts
from bicameral.engines.hf.spell import Piece, Speech, Spelling
from bicameral.engines.media.optional import library
from bicameral.errors import Broken, ModelError, Overloaded, TooLong, Unreachable
from bicameral.types import NO_USAGE, Finish, Request, TokenLogprob, Usage

# What torch and transformers raise when a net cannot compute.
_FAILED = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    OSError,
)
_EARLY = 2  # tokens; a mark that comes later is text
_THOUGHT = ("<think>", "</think>")  # what Qwen3, DeepSeek-R1, SmolLM3 and others put around it
_FULL = ("out of memory", "can't allocate memory", "not enough memory")
_GONE = ("CUDA error", "CUDA driver", "HIP error", "device-side assert", "Level Zero")


class Asked(Struct, frozen=True, kw_only=True):
    """One answer to give, and how to draw it."""

    request: Request
    wish: Wish

    @property
    def endless(self) -> bool:
        """Whether the tokens that end an answer do not end this one."""
        return bool(self.request.extra.get("ignore_eos", False))


class Over(Struct, frozen=True):
    """How an answer ended."""

    usage: Usage
    reason: Finish


class Gone(Exception):
    """The run was cancelled; no error, as nobody reads its answer any more."""


class Run(threading.local):
    """The run of this thread, told to go on or not."""

    gone: Callable[[], bool] | None = None

    def check(self, *_: object) -> None:
        """Raise Gone if nobody reads the answer any more."""
        if self.gone is not None and self.gone():
            raise Gone


class Net:
    """A loaded net that answers; safe to ask from several threads, but for nets that see."""

    def __init__(
        self, name: str, folder: Folder, loaded: Loaded, prompts: Prompts, context: int
    ) -> None:
        self._name = name
        self._context = context
        self._loaded = loaded
        self._prompts = prompts
        self._spelling = Spelling(loaded.tokenizer)
        self._ends = _ends(folder, loaded)
        self.marks: tuple[int | None, int | None] = (
            _token(loaded, _THOUGHT[0]),
            _token(loaded, _THOUGHT[1]),
        )
        self._run = Run()
        self.vocabulary: int = loaded.net.get_input_embeddings().weight.shape[0]
        for layer in _layers(loaded):
            layer.register_forward_pre_hook(self._run.check)

    def answer(
        self, asked: Asked, say: Callable[[Piece], None], gone: Callable[[], bool]
    ) -> Over | None:
        """Say the answer piece by piece; None if `gone` turned true on the way.

        Raises TooLong, Rejected, Overloaded (no memory), Unreachable (the chip failed) or Broken.
        """
        self._run.gone = gone
        try:
            return self._answer(asked, say)
        except Gone:
            return None
        except _FAILED as error:
            fault = self._fault(error)
        finally:
            self._run.gone = None
        # Raised out here, the fault does not hold on to what the failed step had in memory.
        self._tidy()
        raise fault

    def _answer(self, asked: Asked, say: Callable[[Piece], None]) -> Over:
        tensors = self._prompts.tensors(asked.request)
        ids = tensors["input_ids"][0].tolist()
        if len(ids) >= self._context:
            raise TooLong(
                self._name, f"the prompt has {len(ids)} tokens, the context {self._context}"
            )
        steps = _Steps(self, asked, ids, say)
        most = self._context - len(ids)
        self._run.check()
        self._generate(tensors, steps, min(asked.request.sampling.max_tokens or most, most))
        used = replace(
            NO_USAGE,
            prompt_tokens=len(ids),
            completion_tokens=steps.count,
            reasoning_tokens=steps.thoughts,
            images=len(asked.request.media),
            cost=None,
        )
        return Over(used, steps.end())

    def _generate(self, tensors: Mapping[str, Any], steps: _Steps, most: int) -> None:
        """Generate greedily, from scores in which only the token we drew is left."""
        transformers = library("transformers", extra=EXTRA)
        self._loaded.net.generate(
            **tensors,
            generation_config=transformers.GenerationConfig(max_new_tokens=most, do_sample=False),
            logits_processor=transformers.LogitsProcessorList([steps.drawn]),
            stopping_criteria=transformers.StoppingCriteriaList([steps.over]),
        )

    def threads(self, count: int) -> None:
        """Have this thread compute on `count` cores, if it is them that compute."""
        if self._loaded.device.type == "cpu":
            self._loaded.torch.set_num_threads(count)

    def draw(self, wish: Wish, prompt: list[int]) -> Draw:
        """What draws the tokens of one answer."""
        return Draw(self._loaded.torch, wish, prompt)

    def speech(self, asked: Asked) -> Speech:
        """What makes text of them."""
        return Speech(self._spelling, asked.request.sampling.stop)

    def ends(self, token: int, asked: Asked) -> bool:
        """Whether `token` ends the answer."""
        return token in self._ends and not asked.endless

    def logprob(self, scores: Any, token: int, rivals: int) -> TokenLogprob:
        """How likely the net found `token`, and the likeliest others."""
        log, others = told(scores, token, rivals)
        spell = self._spelling.one
        return TokenLogprob(spell(token), log, tuple((spell(it), p) for it, p in others))

    def _fault(self, error: BaseException) -> ModelError:
        said = first_line(error)
        full = (MemoryError, self._loaded.torch.OutOfMemoryError)
        if isinstance(error, full) or _says(said, _FULL):
            return Overloaded(
                self._name,
                f"the memory of {self._loaded.device} is full; ask for less, or lower 'context', "
                "'slots' or the precision",
            )
        if _says(said, _GONE):
            return Unreachable(
                self._name, f"{self._loaded.device} has failed, so start anew: {said}"
            )
        return Broken(self._name, f"the net could not go on: {said}")

    def _tidy(self) -> None:
        gc.collect()
        chip: Any = getattr(self._loaded.torch, self._loaded.device.type, None)
        if hasattr(chip, "empty_cache"):
            chip.empty_cache()

    def close(self) -> None:
        """Let go of the weights; nothing may be asked afterwards."""
        del self._prompts, self._spelling
        self._loaded = Loaded(self._loaded.torch, None, None, None, self._loaded.device)
        self._tidy()


class _Steps:
    """What generate() asks after every step; it may run a step ahead of being told to stop."""

    def __init__(
        self, net: Net, asked: Asked, prompt: list[int], say: Callable[[Piece], None]
    ) -> None:
        self._net = net
        self._asked = asked
        self._say = say
        self._draw = net.draw(asked.wish, prompt)
        self._speech = net.speech(asked)
        self._thinking = self._unclosed(prompt)
        self._blank = False
        self._stopped = False
        self._reason: Finish | None = None
        self.count = 0
        self.thoughts = 0

    def drawn(self, ids: Any, scores: Any) -> Any:
        """The scores with all but one token ruled out."""
        if self._reason is not None:
            return scores
        token = self._draw(scores[0])
        self.count += 1
        self.thoughts += self._thinking
        if self._net.ends(token, self._asked):
            self._reason = "stop"
        elif not self._marked(token):
            self._spoken(token, scores[0])
        only = scores.new_full(scores.shape, -float("inf"))
        only[0, token] = 0.0
        return only

    def _unclosed(self, prompt: list[int]) -> bool:
        """Whether the prompt ends inside a thought, as some templates have it."""
        marks = [token for token in prompt[-4:] if token in self._net.marks]
        return marks[-1:] == [self._net.marks[0]]

    def _marked(self, token: int) -> bool:
        """Whether `token` does no more than begin or end a thought."""
        begins, ends = self._net.marks
        if token == begins and self.count <= _EARLY:
            self.thoughts += not self._thinking
            self._thinking = True
        elif token == ends and self._thinking:
            self._out(self._speech.end())
            self._speech = self._net.speech(self._asked)
            self._thinking, self._blank = False, True
        else:
            return False
        return True

    def _spoken(self, token: int, scores: Any) -> None:
        rivals = None if self._thinking else self._asked.wish.rivals
        logprob = None if rivals is None else self._net.logprob(scores, token, rivals)
        self._out(self._speech.add(token, logprob))

    def _out(self, piece: Piece) -> None:
        """Say it, but for the blanks between a thought and the answer."""
        text = piece.text.lstrip() if self._blank else piece.text
        self._blank = self._blank and not text
        piece = replace(piece, text=text, thought=self._thinking)
        if piece.text or piece.logprobs:
            self._say(piece)
        if piece.stopped:
            self._stopped, self._reason = True, "stop"

    def over(self, ids: Any, scores: Any, **_: Any) -> Any:
        """Whether to stop, for each row of `ids`."""
        return (ids[:, 0] < 0) | (self._reason is not None)

    def end(self) -> Finish:
        """Say what is left; why the answer ended."""
        if not self._stopped:
            self._out(self._speech.end())
        return self._reason or "length"


def _ends(folder: Folder, loaded: Loaded) -> frozenset[int]:
    """The tokens that end an answer, as the folder and the tokenizer name them."""
    named = [
        folder.sampling.get("eos_token_id"),
        loaded.net.config.get_text_config().eos_token_id,
        loaded.tokenizer.eos_token_id,
    ]
    flat = [it for some in named for it in (some if isinstance(some, list) else [some])]
    return frozenset(it for it in flat if isinstance(it, int))


def _token(loaded: Loaded, text: str) -> int | None:
    """The token that is `text`, None if the vocabulary has none."""
    found: int | None = loaded.tokenizer.get_vocab().get(text)
    return found


def _layers(loaded: Loaded) -> list[Any]:
    """The layers of the net, and those of its eyes."""
    lists = loaded.torch.nn.ModuleList
    return [it for some in loaded.net.modules() if isinstance(some, lists) for it in some]


def _says(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)
