"""What it is worth to keep freed memory (rhs.memory): a training step and embedding.

    python -m benchmarks.allocator

A process for each way of asking for memory, one thread each; they take turns in one run, and a
ratio is the median over rounds. The weights after all steps, and the embeddings, must be the same
bit for bit.
"""

import argparse
import ctypes
import hashlib
import multiprocessing
import resource
import statistics
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from rhs.config.compose import compose
from rhs.memory import M_TRIM_THRESHOLD, keep_freed_memory
from rhs.methods.objective import build_objective
from rhs.models.embedder import build_embedder
from rhs.tracking.hardware import describe_hardware
from rhs.training.components import enable_determinism
from rhs.training.loop import training_step
from rhs.training.optimization import build_optimizer

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
PER_CLASS = 4
WORK = {"train": "training step", "embed": "embedding a batch"}


def up_to_32_mib() -> None:
    """Keep blocks of up to 32 MiB, 256 MiB in all."""
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, 1 << 25)
    mallopt(M_TRIM_THRESHOLD, 1 << 28)


WAYS = {
    "glibc's own": lambda: None,
    "blocks of up to 32 MiB kept": up_to_32_mib,
    "all kept (`rhs.memory`)": keep_freed_memory,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", default="efficientnet_lite0")
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--rounds", type=int, default=12)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/allocator.md"))
    options = arguments.parse_args()
    tables = [measure(work, options) for work in WORK]
    text = "\n".join([heading(options), *tables])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    print(text)


def measure(work: str, options: argparse.Namespace) -> str:
    """Seconds of each way in turns, as a table."""
    spawn = multiprocessing.get_context("spawn")
    crew: dict[str, Any] = {}
    for way in WAYS:
        here, there = spawn.Pipe()
        spawn.Process(target=_serve, args=(there, way, work, options.model, options.batch)).start()
        crew[way] = here
    seen: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in tqdm(range(options.rounds + 1), work, disable=None):
        for way, pipe in crew.items():
            pipe.send("go")
            seen[way].append(pipe.recv())
    for pipe in crew.values():
        pipe.send("end")
    ends = {way: pipe.recv() for way, pipe in crew.items()}
    assert len({digest for _, digest in ends.values()}) == 1, "memory has changed a number"
    peaks = {way: peak for way, (peak, _) in ends.items()}
    return table(WORK[work], {way: times[1:] for way, times in seen.items()}, peaks)


def _serve(pipe: Any, way: str, work: str, model: str, batch: int) -> None:
    """One process: answers each "go" with the seconds of one turn, and "end" with its peak in MiB
    and a digest of what was computed."""
    WAYS[way]()
    torch.set_num_threads(1)
    enable_determinism(torch.device("cpu"))
    model_config = compose([f"model={model}", "model.trunk.pretrained=false"]).model
    embedder = build_embedder(asdict(model_config), seed=0)
    objective = build_objective(compose([]).method)
    objective.prepare(batch // PER_CLASS, embedder.dim)
    optimizer = build_optimizer(embedder, objective, 1e-4, 1e-4, 1.0)
    random = torch.Generator().manual_seed(0)
    size = embedder.image_size
    images = torch.randint(0, 256, (batch, 3, size, size), generator=random, dtype=torch.uint8)
    labels = torch.arange(batch) // PER_CLASS
    embedder.train(work == "train")
    made = torch.empty(0)
    while pipe.recv() == "go":
        start = time.perf_counter()
        if work == "train":
            training_step(embedder, objective, optimizer, images, labels, 0.5)
            optimizer.step()
        else:
            made = embedder.embed(images)
        pipe.send(time.perf_counter() - start)
    digest = hashlib.sha256(made.numpy().tobytes())
    for value in embedder.state_dict().values():
        digest.update(value.numpy().tobytes())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipe.send((peak, digest.hexdigest()))


def table(title: str, seen: dict[str, list[float]], peaks: dict[str, float]) -> str:
    """Medians, and medians of the ratios within a round."""
    lines = [
        f"\n## {title[0].upper()}{title[1:]}\n",
        "| memory | ms | of glibc's own | peak, MiB |",
        "|---|---|---|---|",
    ]
    first = next(iter(seen))
    for way, times in seen.items():
        ratio = statistics.median(a / b for a, b in zip(times, seen[first], strict=True))
        lines.append(
            f"| {way} | {1000 * statistics.median(times):,.0f} | {ratio:.2f} x | "
            f"{peaks[way]:,.0f} ({peaks[way] / peaks[first]:.2f} x) |"
        )
    return "\n".join(lines) + "\n"


def heading(options: argparse.Namespace) -> str:
    return (
        "# Keeping freed memory\n\n"
        f"`python -m benchmarks.allocator`, {describe_hardware()}, {date.today()}; "
        f"{options.model}, batches of {options.batch}, one thread, medians of {options.rounds} "
        "rounds in turns. Weights and embeddings are the same bit for bit.\n"
    )


if __name__ == "__main__":
    main()
