"""From the kill of a worker to the next step: what Ray takes to start again, and what we add.

    python -m benchmarks.restart

Trains the default glyphs run with two workers and a checkpoint after every step, kills one of them
with SIGKILL in the middle of an epoch, and watches the messages of the workers and the checkpoints
on the disk. Ray's part is from the kill until the workers are called again (it notices the death,
ends the others, starts processes that import torch, and joins them); ours is from there until the
checkpoint of the next step is on the disk: images opened, model built, checkpoint read, one step.
"""

import argparse
import statistics
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import psutil

from rhs.config.compose import compose
from rhs.distributed import supervisor
from rhs.distributed.mailbox import RemoteMailbox
from rhs.distributed.ray_cluster import connect
from rhs.run import Run
from rhs.storage.store import FolderStore
from rhs.tracking.hardware import describe_hardware
from rhs.tracking.tracker import NullTracker
from rhs.training import checkpoint
from rhs.training.driver import fit

RESULT = Path("benchmarks/results/restart.md")
NEAR = 0.01  # seconds between looks at the disk


class Heard(RemoteMailbox):
    """A mailbox that notes when the workers were called."""

    called: list[float] = []  # noqa: RUF012  (of this process)

    def take(self) -> list:
        taken = super().take()
        self.called += [time.monotonic() for kind, _ in taken if kind == "training"]
        return taken


def workers() -> list[psutil.Process]:
    """The processes of Ray Train's workers."""
    family = psutil.Process().children(recursive=True)
    return [p for p in family if "RayTrainWorker" in " ".join(p.cmdline())]


def wait(what, seconds: float = 180) -> float:
    """When `what()` became true."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError("the run did not come to the next event")
        time.sleep(NEAR)
    return time.monotonic()


def once(shards: Path, folder: Path) -> dict[str, float]:
    """Seconds of each part, of one kill."""
    params = compose(["tracking=none", "train.epochs=1", "cluster.checkpoint.every_steps=1"])
    params = params.with_cluster(cache_folder=str(folder / "decoded"))
    run = Run("restart", folder / "run")
    store = FolderStore(Path(run.checkpoints))

    def newest() -> int:
        return max(checkpoint.steps(store), default=0)

    Heard.called.clear()
    began = time.monotonic()
    training = threading.Thread(target=fit, args=(params, shards, run, NullTracker()), daemon=True)
    training.start()
    first = wait(lambda: newest() >= 1)
    start = Heard.called[0]
    wait(lambda: newest() >= 40)
    victim = max(workers(), key=lambda process: process.pid)
    victim.kill()
    killed = time.monotonic()
    time.sleep(0.5)  # a checkpoint in the making may still arrive
    before = newest()
    again = wait(lambda: newest() > before)
    training.join()
    return {
        "training starts until the workers are called (Ray)": start - began,
        "called until the first step is saved (ours)": first - start,
        "kill until the workers are called again (Ray)": Heard.called[1] - killed,
        "called again until the next step is saved (ours)": again - Heard.called[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=Path, default=Path("data/shards/glyphs"))
    rounds = parser.parse_args()
    supervisor.EVERY = NEAR
    from rhs.training import worker

    worker.RemoteMailbox = Heard  # type: ignore[misc]
    connect(compose([]).cluster)  # here: Ray's processes end with the thread that started them
    seen = []
    for number in range(rounds.rounds):
        with tempfile.TemporaryDirectory() as folder:
            seen.append(once(rounds.shards, Path(folder)))
        print(f"round {number + 1}: {seen[-1]}", flush=True)
    lines = [
        f"# From a kill to the next step\n\n`python -m benchmarks.restart`, {describe_hardware()}, "
        f"{date.today()}; glyphs, two workers, {rounds.rounds} rounds. Seconds.\n",
        "| | median | lowest | highest |\n|---|---|---|---|",
    ]
    for name in seen[0]:
        values = [row[name] for row in seen]
        low, high = min(values), max(values)
        lines.append(f"| {name} | {statistics.median(values):.1f} | {low:.1f} | {high:.1f} |")
    RESULT.write_text("\n".join(lines) + "\n")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
