"""Where the time of a whole run goes, stage by stage.

    python -m benchmarks.pipeline                                   the default run
    python -m benchmarks.pipeline experiment=photos dataset.source=PATH train.epochs=1

Runs every stage afresh as a process of its own, as DVC does, in the project folder. The training
run must be new (it would be continued otherwise), so its checkpoints are deleted first.
"""

import json
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from rhs.config.compose import load_params
from rhs.data.shards import load_manifest
from rhs.run import identify
from rhs.tracking.hardware import describe_hardware

STAGES = ("fetch", "preprocess", "data_report", "train", "evaluate", "report")


def main() -> None:
    overrides = sys.argv[1:]
    params = load_params(overrides)
    name = params.dataset.name
    seconds = {"Ray start alone": timed(["-c", CONNECT])}
    for stage in STAGES:
        if stage == "train":
            manifest = load_manifest(Path("data/shards", name))
            run = identify(params, manifest["digest"])
            shutil.rmtree(run.folder, ignore_errors=True)
            began = time.time()
        seconds[stage] = timed(["-m", f"pipelines.{stage}", *overrides])
    epochs = [json.loads(line) for line in run.times.read_text().splitlines()]
    images = int(manifest["splits"]["train"]["images"])
    print(f"\nMachine: {describe_hardware()}. Date: {date.today()}. Overrides: {overrides}.")
    for what, value in seconds.items():
        print(f"{what:>16}  {value:7.1f} s")
    print(f"{'all stages':>16}  {sum(seconds[stage] for stage in STAGES):7.1f} s")
    start_up = first_line(run.journal) - began
    per_epoch = [row["seconds"] for row in epochs]
    waited = sum(row["input_wait"] * s for row, s in zip(epochs, per_epoch, strict=True))
    print(f"\nTraining of {images} images, {len(epochs)} epochs:")
    for what, value in {
        "start-up (imports, Ray, worker group)": start_up,
        "waiting for input": waited,
        "compute and communication": sum(per_epoch) - waited,
        "validation, checkpoints, shut-down": seconds["train"] - start_up - sum(per_epoch),
    }.items():
        print(f"{value / seconds['train']:7.1%}  {value:6.1f} s  {what}")
    rates = [row["images_per_second"] for row in epochs]
    print(f"images per second, by epoch: {', '.join(f'{rate:.0f}' for rate in rates)}")


CONNECT = """
from rhs.config.compose import compose
from rhs.distributed.ray_cluster import connect
connect(compose(["cluster.num_cpus=2"]).cluster)
"""


def timed(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True)
    return time.perf_counter() - start


def first_line(journal: Path) -> float:
    """When the journal's first line was written, in seconds since the epoch."""
    clock = journal.read_text().split(maxsplit=1)[0]
    return time.mktime(time.strptime(f"{date.today()} {clock}", "%Y-%m-%d %H:%M:%S"))


if __name__ == "__main__":
    main()
