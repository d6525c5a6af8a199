"""How well and how fast the perceivers of sound hear, as markdown tables.

Errors of words (of characters in Chinese and Japanese) of the whisper engine, by language and
source: clips with transcripts (DIR/LANGUAGE/NAME.wav and .txt; the package pytest-audioeval has
such), recordings of people (DIR/NAME.wav and .txt), and speech made here by flite, espeak-ng and
piper, as far as these programs are installed. Clips that count to ten are left out: digits for
number words are no error of hearing. Seconds are of the process's CPU, on one thread, for each
second of sound. Before that, precision and recall of the vad engine, in chunks of 32 ms, on clips
between silence, with white noise of several strengths; speech is from the first to the last loud
chunk. What was heard goes to stderr, clip by clip.

    python bench/hearing.py --clips .../pytest_audioeval/samples/audio --people DIR \\
        --piper ".../python -m piper -m VOICE.onnx"
"""

from __future__ import annotations

import argparse
import asyncio
import io
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from bicameral.engines import vad, whisper
from bicameral.engines.media.sound import RATE, blocks
from bicameral.engines.speech.spans import CHUNK
from bicameral.model import Model, collect
from bicameral.types import Audio, Message, Modality, Percept, Request

CHARACTERS = {"zh", "ja"}
COUNTING = {
    "counting", "conteo", "comptage", "ginti", "conteggio", "kazoeru", "liczenie", "contagem",
    "jishu",
}  # fmt: skip
SENTENCES = """The meeting was moved to Thursday because the room is being painted.
Please leave the keys under the mat before you go to the station.
She bought fresh bread, a bottle of milk and some apples at the market.
The doctor said that the results would be ready by the end of the week.
A small boat crossed the lake while the sun was setting behind the hills.
Nobody knew why the old factory had been closed for so many years.
Turn left at the bridge and follow the river until you reach the village.
The children were playing in the garden when it began to rain.""".splitlines()
ESPEAK = {
    "en": SENTENCES[:4],
    "de": ["Das Fenster war offen, und es regnete den ganzen Abend.",
           "Wir treffen uns morgen vor dem Bahnhof."],
    "es": ["La ventana estaba abierta y llovió toda la noche.",
           "Nos vemos mañana delante de la estación."],
    "fr": ["La fenêtre était ouverte et il a plu toute la soirée.",
           "Nous nous retrouvons demain devant la gare."],
    "zh": ["今天天气很好。", "我们明天在车站见面。"],
}  # fmt: skip
ESPEAK_VOICES = {"zh": "cmn"}
NOISES = (None, 20, 10, 5, 0)


@dataclass(frozen=True)
class Clip:
    source: str
    language: str
    text: str
    data: bytes


@dataclass
class Tally:
    clips: int = 0
    known: int = 0
    errors: int = 0
    words: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    sure: list[float] = field(default_factory=list)


def folder(root: Path, source: str) -> Iterator[Clip]:
    for wav in sorted(root.glob("*/*.wav")):
        if wav.stem not in COUNTING:
            text = wav.with_suffix(".txt").read_text(encoding="utf-8")
            yield Clip(source, wav.parent.name, text, wav.read_bytes())


def people(root: Path) -> Iterator[Clip]:
    for wav in sorted(root.glob("*.wav")):
        text = wav.with_suffix(".txt").read_text(encoding="utf-8")
        yield Clip("people", "en", text, wav.read_bytes())


def made(command: list[str], text: str | None = None) -> bytes:
    """What a program that ends with the name of its output says."""
    with tempfile.TemporaryDirectory() as where:
        wav = Path(where) / "said.wav"
        subprocess.run([*command, str(wav)], input=text, text=True, check=True, capture_output=True)
        return wav.read_bytes()


def synthetic(programs: set[str], piper: str) -> Iterator[Clip]:
    for sentence in SENTENCES:
        if "flite" in programs:
            data = made(["flite", "-voice", "slt", "-t", sentence, "-o"])
            yield Clip("flite slt", "en", sentence, data)
        if piper:
            data = made([*shlex.split(piper), "-f"], sentence)
            yield Clip("piper", "en", sentence, data)
    if "espeak-ng" in programs:
        for language, sentences in ESPEAK.items():
            for sentence in sentences:
                voice = ESPEAK_VOICES.get(language, language)
                data = made(["espeak-ng", "-v", voice, sentence, "-w"])
                yield Clip("espeak-ng", language, sentence, data)


def units(text: str, language: str) -> list[str]:
    """Words without case and punctuation, or characters."""
    letters = unicodedata.normalize("NFKC", text.lower()).replace("'", "")
    bare = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in letters)
    return list(bare.replace(" ", "")) if language in CHARACTERS else bare.split()


def distance(said: list[str], heard: list[str]) -> int:
    """Least number of units put in, left out or changed."""
    row = list(range(len(heard) + 1))
    for i, unit in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (unit != other))
    return row[-1]


async def heard(model: Model, data: bytes) -> tuple[tuple[Percept, ...], float]:
    """The percepts, and the process's CPU seconds."""
    message = Message("user", (Audio(data, "wav"),))
    began = time.process_time()
    answer = await collect(model, Request(messages=(message,), output=Modality.PERCEPT))
    if answer.error:
        raise answer.error
    return answer.percepts, time.process_time() - began


def wave(data: bytes) -> np.ndarray:
    return np.concatenate(list(blocks(data, 3600)))


def flac(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format="FLAC", subtype="PCM_16")
    return out.getvalue()


async def transcripts(model: Model, clips: list[Clip]) -> None:
    found: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for clip in clips:
        percepts, cpu = await heard(model, clip.data)
        tally = found[clip.source, clip.language]
        said = units(clip.text, clip.language)
        tally.clips += 1
        tally.known += any(p.language == clip.language for p in percepts)
        text = " ".join(p.text for p in percepts)
        errors = distance(said, units(text, clip.language))
        print(clip.source, clip.language, f"{errors}/{len(said)}", text, sep=" | ", file=sys.stderr)
        tally.errors += errors
        tally.words += len(said)
        tally.seconds += len(wave(clip.data)) / RATE
        tally.cpu += cpu
        tally.sure += [p.confidence or 0.0 for p in percepts]
    print(
        "\n| speech | language | clips | language found | errors | of | rate | confidence | CPU |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for (source, language), t in sorted(found.items()):
        unit = "characters" if language in CHARACTERS else "words"
        sure = f"{np.mean(t.sure):.2f}" if t.sure else "-"
        print(
            f"| {source} | {language} | {t.clips} | {t.known} | {t.errors} | {t.words} {unit} | "
            f"{t.errors / t.words:.0%} | {sure} | {t.cpu / t.seconds:.2f} |"
        )


async def long_recording(models: dict[str, Model], clips: list[Clip]) -> None:
    """English clips with pauses of a second, and as much silence again between them."""
    waves = [wave(clip.data) for clip in clips if clip.language == "en"]
    dense = np.concatenate([np.pad(samples, (0, RATE)) for samples in waves])
    sparse = np.concatenate([np.pad(samples, (0, RATE + len(samples))) for samples in waves])
    print("\n| one recording | seconds | vad, CPU | whisper, CPU |\n|---|---:|---:|---:|")
    for name, samples in (("speech without a break", dense), ("half of it silence", sparse)):
        seconds = len(samples) / RATE
        taken = [(await heard(model, flac(samples)))[1] / seconds for model in models.values()]
        print(f"| {name} | {seconds:.0f} | {taken[0]:.4f} | {taken[1]:.3f} |")


def speech_chunks(samples: np.ndarray) -> np.ndarray:
    """Which chunks lie from the first to the last that is within 40 dB of the loudest."""
    whole = samples[: len(samples) // CHUNK * CHUNK].reshape(-1, CHUNK)
    power = (whole**2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() / 1e4)
    truth = np.zeros(len(whole), bool)
    truth[loud[0] : loud[-1] + 1] = True
    return truth


async def voices(model: Model, clips: list[Clip]) -> None:
    random = np.random.default_rng(0)
    print("| noise | precision | recall | spans in 60 s of noise alone |\n|---|---:|---:|---:|")
    for noise in NOISES:
        right = said = claimed = 0
        level = 0.0
        for clip in clips:
            samples = wave(clip.data)
            truth = np.pad(speech_chunks(samples), 94)  # three seconds on either side
            padded = np.pad(samples, 94 * CHUNK)[: len(truth) * CHUNK]
            strength = float(np.sqrt(np.mean(samples**2)))
            level = 0.0 if noise is None else strength / 10 ** (noise / 20)
            noisy = padded + random.normal(0, level, len(padded))
            found = np.zeros(len(truth), bool)
            for p in (await heard(model, flac(np.clip(noisy, -1, 1))))[0]:
                found[round(p.start * RATE / CHUNK) : round(p.end * RATE / CHUNK)] = True
            right += int((found & truth).sum())
            said += int(truth.sum())
            claimed += int(found.sum())
        alone = await heard(model, flac(random.normal(0, level, RATE * 60)))
        name = "none" if noise is None else f"{noise} dB below the speech"
        print(f"| {name} | {right / max(1, claimed):.1%} | {right / said:.1%} | {len(alone[0])} |")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path, help="LANGUAGE/NAME.wav and .txt")
    parser.add_argument("--people", type=Path, help="NAME.wav and .txt, English")
    parser.add_argument("--programs", default="flite,espeak-ng", help="which of these speak")
    parser.add_argument("--piper", default="", help="the command, up to its options -f and text")
    parser.add_argument("--languages", default="", help="only clips whose language matches this")
    asked = parser.parse_args()
    clips = [
        *(folder(asked.clips, "clips") if asked.clips else ()),
        *(people(asked.people) if asked.people else ()),
        *synthetic({name for name in asked.programs.split(",") if shutil.which(name)}, asked.piper),
    ]
    clips = [clip for clip in clips if re.match(asked.languages, clip.language)]
    async with (
        vad.open("vad", vad.Options(engine="vad")) as ears,
        whisper.open("whisper", whisper.Options(engine="whisper")) as writer,
    ):
        await voices(ears, [clip for clip in clips if clip.source in ("clips", "people")] or clips)
        await transcripts(writer, clips)
        await long_recording({"vad": ears, "whisper": writer}, clips)


if __name__ == "__main__":
    asyncio.run(main())
