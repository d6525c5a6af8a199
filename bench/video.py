"""The video diffusion transformer in numbers: seven tasks, ablations, rivals, speed. Markdown.

    OMP_NUM_THREADS=1 python bench/video.py [--parts scores,ablations,mnist,speed] [--model nano]

`scores`: a checkpoint on clips of held-out seeds (10,000,000 and above), in and out of what it
learned. `ablations`: small nets trained here, one choice changed at a time. `mnist`: a checkpoint
of Moving MNIST beside OpenSTL's table. `speed`: steps, training, the share of the matmul peak, and
blocks of diffusers, if that is installed. One thread. Needs the extra `video`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from msgspec.structs import replace
from video_ablate import ablations
from video_published import PUBLISHED, SOURCE
from video_speed import rivals, speed

from bicameral.engines.vdt import checkpoint, load
from bicameral.engines.vdt.design import named
from bicameral.engines.vdt.score import seven, table
from bicameral.engines.vdt.score.held import FIRST, held
from bicameral.engines.vdt.score.samples import Way, compiled
from bicameral.engines.vdt.score.seven import BEST, MODEL
from bicameral.engines.vdt.score.whole import Wanted, examine

PARTS = ("scores", "ablations", "mnist", "speed")
CPU = torch.device("cpu")


def scores(args: argparse.Namespace) -> None:
    file = load.find(args.model)
    if not file.is_file():
        print(f"{file} is not there: no scores of it.\n")
        return
    net, about = load.load(file, CPU, half=args.half), checkpoint.read(file)[2]
    way = replace(_way(args, args.steps, args.samples), guidance=net.guidance)
    wanted = Wanted(data=str(about.get("data")), clips=args.clips)
    if args.compile:
        net = compiled(net, way, lambda text: print(text, file=sys.stderr))
    began = time.process_time()
    found, _ = examine(net, wanted, way, _watching())
    print(
        f"{file.name}: {net.design.kind}, {about.get('steps')} training steps on "
        f"{about.get('data')}; {args.clips} clips of seeds from {FIRST + args.seed:,} on, "
        f"{args.samples} samples of each, {args.steps} sampling steps, guidance {net.guidance:g}, "
        f"{time.process_time() - began:.0f} s of one core.\n"
    )
    for grid in table.grids(found):
        print(f"{grid.markdown()}\n")
    print(table.NOTE + "\n")
    print("\n".join(f"- {line}" for line in table.verdicts(found)) + "\n")
    worst = max(each.kept_error for each in found.results)
    print(f"What was given came back with an error of {worst:g} at most.\n")


def mnist(args: argparse.Namespace) -> None:
    if not args.mnist_model:
        print("No --mnist-model is given: nothing of Moving MNIST is scored.\n")
        return
    net = load.load(load.find(args.mnist_model), CPU, half=args.half)
    clips = held(
        f"moving-mnist:{args.digits}",
        net.design,
        count=args.mnist_clips,
        frames=net.design.frames,
        seed=args.seed,
    )
    way = _way(args, args.steps, args.mnist_samples)
    found, _ = seven.evaluate(net, clips, "predict", way, lambda steps: None)
    half = net.design.frames // 2
    print(
        f"Moving MNIST {half} to {net.design.frames - half}, {args.mnist_clips} clips; the test "
        f"set is made anew by the same generator. Published: {SOURCE}.\n"
    )
    print("| who | parameters | GFLOP | epochs | MSE | SSIM | PSNR |\n" + "|---" * 7 + "|")
    for name in sorted(found.scores, key=lambda each: each not in MODEL):
        score = found.scores[name]
        label = f"ours, {name} (K = {way.samples})" if name in MODEL else f"floor: {name}"
        label += ", chosen by the truth: not comparable" * (name == BEST)
        print(f"| {label} | | | | {score.mse:.2f} | {score.ssim:.4f} | {score.psnr:.2f} |")
    for name, parameters, cost, *both in PUBLISHED:
        for epochs, (mse, ssim, psnr) in zip((200, 2000), both, strict=True):
            print(f"| {name} | {parameters} | {cost} | {epochs} | {mse} | {ssim} | {psnr} |")
    print()


def fast(args: argparse.Namespace) -> None:
    file = load.find(args.model)
    design = named("modern-nano", frames=12, height=32, width=32, patch=8)
    if file.is_file():
        design = checkpoint.read(file)[0]
    print(speed(design, args.rounds) + "\n")
    print(rivals(design, args.rounds) + "\n")


def ablated(args: argparse.Namespace) -> None:
    way = Way(samples=4, steps=args.steps, seed=args.seed, batch=64)
    print(
        f"{args.train_steps} steps of {args.train_batch} clips of balls:box, the same for each; "
        f"{args.ablation_clips} held-out clips, 4 samples, {args.steps} sampling steps.\n"
    )
    print(
        ablations(
            args.train_steps,
            args.train_batch,
            args.ablation_clips,
            way,
            args.seeds,
            args.rate,
            args.only,
        )
        + "\n"
    )


RUNS = {"scores": scores, "ablations": ablated, "mnist": mnist, "speed": fast}


def _way(args: argparse.Namespace, steps: int, samples: int) -> Way:
    return Way(samples=samples, steps=steps, seed=args.seed, batch=args.batch)


def _watching() -> object:
    last = [time.monotonic()]

    def watched(what: str, done: int, total: int) -> None:
        if time.monotonic() - last[0] >= 30 or done == total:
            last[0] = time.monotonic()
            print(f"{what}: {done:,} of {total:,} steps of a clip", file=sys.stderr, flush=True)

    return watched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6, help="of sampling")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--half", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action="store_true", help="the net that is scored")
    parser.add_argument("--train-steps", type=int, default=300)
    parser.add_argument("--only", default="", help="those ablations whose name has this")
    parser.add_argument("--train-batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each ablation")
    parser.add_argument("--ablation-clips", type=int, default=32)
    parser.add_argument("--mnist-model")
    data = Path(os.environ.get("BICAMERAL_DATA", "../shared/data"))
    parser.add_argument("--digits", type=Path, default=data / "mnist" / "mnist10k.npz")
    parser.add_argument("--mnist-clips", type=int, default=200)
    parser.add_argument("--mnist-samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = args.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: there is no {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for part in parts:
        print(f"## {part}\n")
        RUNS[part](args)


if __name__ == "__main__":
    main()
