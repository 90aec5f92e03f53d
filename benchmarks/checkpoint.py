"""What checkpoints cost: the same training with none, one a minute, and one every ten seconds.

    python -m benchmarks.checkpoint

Two gloo workers train on made-up pictures with the real loop, on both cores; the first keeps the
checkpoints of one kind after the other, in turns of about a minute, in one run; every round starts
with another kind. Told: images a second; how long training stands still for a copy, how long the
copy is written, and how much longer steps take meanwhile. Then copies and writes of several sizes,
alone.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.support import gloo_ranks
from benchmarks.support.worker_pool import OF_CLASS, PER_CLASS, PICTURES, Worker
from rhs.config.compose import compose
from rhs.config.settings import CheckpointConfig
from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.loader import TrainLoader
from rhs.distributed import collectives
from rhs.storage.store import open_store
from rhs.tracking.hardware import describe_hardware
from rhs.training import checkpoint
from rhs.training.checkpointer import Checkpointer
from rhs.training.hooks import RunHooks
from rhs.training.loop import Progress, train

KINDS = {"none": None, "one a minute": 60.0, "one every ten seconds": 10.0}
BATCH = 128
EPOCH = PICTURES // BATCH  # steps


class Turns:
    """The keeper of each kind in turn, and when it did what; the first epoch warms up.

    Each round of turns starts with another kind, so that none is always the first.

    Args:
        keepers: by kind; None keeps nothing.
        steps: of a turn.
    """

    def __init__(self, keepers: dict[str, Checkpointer | None], steps: int):
        self.keepers, self.steps = keepers, steps
        self.turns: list[tuple[str, list[float]]] = []  # of a turn its kind and each step's end
        self.saves: list[dict] = []

    def due(self, step: int) -> bool:
        """Whether the keeper whose turn it is wants to save."""
        turn, place = divmod(step - 1 - EPOCH, self.steps)
        if turn < 0:
            return False
        round_, position = divmod(turn, len(self.keepers))
        kind = list(self.keepers)[(position + round_) % len(self.keepers)]
        keeper = self.keepers[kind]
        if place == 0:
            self.turns.append((kind, []))
            if keeper is not None and keeper.often.every_seconds:  # one a minute: in the middle
                keeper.saved_at = time.monotonic() - keeper.often.every_seconds / 2
        self.turns[-1][1].append(time.perf_counter())
        return keeper is not None and keeper.due(step)

    def save(self, progress: Progress) -> None:
        """Let it save, timed."""
        kind = self.turns[-1][0]
        keeper = self.keepers[kind]
        assert keeper is not None
        told = {"kind": kind, "turn": len(self.turns) - 1, "start": time.perf_counter()}
        keeper.save(progress)
        told["copied"] = time.perf_counter()
        if keeper.writing is not None:
            keeper.writing.add_done_callback(lambda _: told.update(written=time.perf_counter()))
        self.saves.append(told)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", default="convnet")
    arguments.add_argument("--method", default="rhs_npair")
    arguments.add_argument("--epochs", type=int, default=14, help=f"of a turn, {EPOCH} steps each")
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--megabytes", default="10,100,1000")
    arguments.add_argument("--folder", type=Path, default=None, help="where checkpoints are kept")
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/checkpoint.md"))
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        job = options.model, options.method, options.epochs, options.rounds, Path(folder)
        size, turns, saves = gloo_ranks.run(measure, 2, *job)[0]
        sizes = [int(size) for size in options.megabytes.split(",")]
        alone = {size: write(size, Path(folder)) for size in sizes}
    text = "\n".join([heading(options), table(size, turns, saves), alone_table(alone)])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    print(text)


def measure(model: str, method: str, epochs: int, rounds: int, folder: Path) -> tuple:
    """Bytes of a checkpoint, turns and saves; runs on every rank, the first keeps."""
    worker = Worker(model, method)
    worker.watch.close()
    plan = BalancedBatchSampler(worker.images.labels, BATCH // PER_CLASS, PER_CLASS, seed=0)
    assert plan.steps == EPOCH, (plan.steps, OF_CLASS)
    parts = (worker.embedder, worker.objective, worker.optimizer)
    keepers = {
        kind: Checkpointer(
            open_store(folder / str(place)),
            parts,
            plan,
            CheckpointConfig(every_seconds=seconds, every_steps=None, keep=2),
            RunHooks(say=print),
        )
        if seconds
        else None
        for place, (kind, seconds) in enumerate(KINDS.items())
    }
    turns = Turns(keepers, epochs * EPOCH) if collectives.rank() == 0 else None
    size, where = worker.embedder.image_size, (collectives.rank(), collectives.world_size())
    train(
        worker.model,
        worker.objective,
        worker.optimizer,
        TrainLoader(worker.images, plan, worker.augmentation, size, *where),
        replace(compose([]).train, epochs=1 + epochs * rounds * len(KINDS), lr=1e-4, warmup=0.1),
        Progress(),
        seed=0,
        device=torch.device("cpu"),
        end_of_epoch=lambda *_: None,
        hooks=RunHooks(),
        checkpointer=turns,
    )
    for keeper in keepers.values():
        if keeper is not None:
            keeper.__exit__(None, None, None)  # waits for the last
    packed = checkpoint.state_tensors(*parts)
    return sum(t.nbytes for t in packed.values()), turns and turns.turns, turns and turns.saves


def costs(turns: list[tuple[str, list[float]]], saves: list[dict]) -> list[dict[str, float]]:
    """Of each checkpoint, in seconds: the copy, the writing, and what the steps during it took
    beyond the median step of its turn."""
    told = []
    for save in saves:
        ends = turns[save["turn"]][1]
        steps = list(pairwise(ends))
        during = [b - a for a, b in steps if b > save["copied"] and a < save["written"]]
        others = [b - a for a, b in steps if b <= save["start"] or a >= save["written"]]
        copy = save["copied"] - save["start"]
        # The copy is made within the first of these steps.
        slower = sum(during) - copy - len(during) * statistics.median(others) if during else 0.0
        told.append({"copy": copy, "write": save["written"] - save["copied"], "slower": slower})
    return told


def table(size: int, turns: list[tuple[str, list[float]]], saves: list[dict]) -> str:
    """Speed by kind, and what a checkpoint costs."""
    speeds: dict[str, list[float]] = {}
    for kind, ends in turns:
        speeds.setdefault(kind, []).append(BATCH * (len(ends) - 1) / (ends[-1] - ends[0]))
    straight = statistics.mean(speeds["none"])
    each = costs(turns, saves)
    copy, written, slower = (
        statistics.median(c[name] for c in each) for name in ("copy", "write", "slower")
    )
    lines = ["| checkpoints | written | images/s of each turn | lost |", "|---|---|---|---|"]
    for kind, rates in speeds.items():
        count = sum(save["kind"] == kind for save in saves)
        shown = ", ".join(f"{rate:,.0f}" for rate in rates)
        lines.append(
            f"| {kind} | {count} | {shown} | {1 - statistics.mean(rates) / straight:.2%} |"
        )
    lines += [
        f"\nA checkpoint ({size / 1e6:.1f} MB), medians of {len(each)}: training stands still for "
        f"{1e3 * copy:.0f} ms; it is written in {1e3 * written:.0f} ms, and the steps during that "
        f"take {1e3 * slower:+.0f} ms longer in all. CombinedGenerators that is "
        f"{(copy + slower) / 60:.2%} of the time at one a minute, {(copy + slower) / 10:.2%} at "
        "one every ten seconds.\n",
    ]
    return "\n".join(lines)


def write(megabytes: int, folder: Path) -> tuple[float, float]:
    """Median seconds of the copy and of the write of so much, in ten tensors; three of each."""
    tensors = {str(i): torch.rand(megabytes * 25_000) for i in range(10)}
    store, seen = open_store(folder / "alone"), []
    for step in range(3):
        start = time.perf_counter()
        copies = checkpoint.cpu_copies(tensors)
        middle = time.perf_counter()
        checkpoint.save(store, step, copies, {})
        seen.append((middle - start, time.perf_counter() - middle))
        checkpoint.prune(store, step, keep=1)
    copied, written = zip(*seen, strict=True)
    return statistics.median(copied), statistics.median(written)


def alone_table(alone: dict[int, tuple[float, float]]) -> str:
    """Copies and writes with nothing beside them."""
    lines = ["| MB | copy: ms | ms/MB | write: ms | ms/MB |", "|---|---|---|---|---|"]
    for size, seconds in alone.items():
        cells = [f"{1e3 * s:,.0f} | {1e3 * s / size:.2f}" for s in seconds]
        lines.append(f"| {size:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def heading(options: argparse.Namespace) -> str:
    return (
        f"# Checkpoints\n\n`python -m benchmarks.checkpoint`, {describe_hardware()}, "
        f"{date.today()}; {options.model}, `{options.method}`, batches of {BATCH} on two workers, "
        f"{options.rounds} rounds of turns of {options.epochs * EPOCH} steps, each round starting "
        "with another kind.\n"
    )


if __name__ == "__main__":
    main()
