"""From one worker to two with the same global batch: what is gained, and where the rest goes.

    python -m benchmarks.scaling

The real step (loader, model, loss, backward, optimizer) on made-up gray pictures as large as those
of glyphs, in processes that take turns in one run:

    one core     a worker of one thread, held to one core: what a second worker would double
    half batch   the same with half the batch: what a smaller batch costs
    one worker   a worker of one thread, whose input is made on the other core
    two threads  a worker of two threads
    two workers  of one thread each, DistributedDataParallel on gloo, half the batch each

Efficiency is the time of "one core" over twice that of "two workers"; what is lost is told part by
part, and adds up.
"""

import argparse
import json
import tempfile
from datetime import date
from pathlib import Path

from tqdm import tqdm

from benchmarks.support.step_timer import parts
from benchmarks.support.worker_pool import PICTURES, SIDE, TOGETHER, Crew, start, stop
from rhs.tracking.hardware import describe_hardware

MODEL = ("model forward", "model backward")
Run = dict[str, dict[str, float]]  # of the parts of a step, by kind


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--method", default="rhs_npair")
    arguments.add_argument("--model", default="convnet")
    arguments.add_argument("--batches", default="128,512")
    arguments.add_argument("--images", type=int, default=2048, help="in a turn")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        crews = start(options.model, options.method, Path(folder))
        runs = {
            batch: measure(crews, int(batch), options.images, options.rounds)
            for batch in options.batches.split(",")
        }
        stop(crews)
    data = {
        "machine": describe_hardware(),
        "date": str(date.today()),
        "model": options.model,
        "method": options.method,
        "rounds": options.rounds,
        "runs": runs,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scaling.json").write_text(json.dumps(data, indent=1) + "\n")
    (options.out / "scaling.md").write_text(table(data))
    print(table(data))


def measure(crews: dict[str, Crew], batch: int, images: int, rounds: int) -> Run:
    """For each kind the parts of a step in the round of median length."""
    if batch > PICTURES // 4:
        raise SystemExit(f"a batch of {batch} is too large for {PICTURES} pictures")
    seen: dict[str, list[dict]] = {name: [] for name in crews}
    for turn in tqdm(range(rounds + 1), f"batch of {batch}", disable=None):
        for name, crew in crews.items():
            for pipe, _ in crew:
                pipe.send((batch, max(2, images // batch)))
            told = parts([pipe.recv() for pipe, _ in crew])
            if turn:  # the first warms up
                seen[name].append(told)
    # A median round, whole, so that its parts still add up.
    return {name: sorted(told, key=_step)[len(told) // 2] for name, told in seen.items()}


def losses(run: Run) -> dict[str, float]:
    """What keeps two workers from half the time of one core, as shares of their step.

    They add up to 1 - efficiency. The model's part is told in two: what half the batch costs beyond
    half the time, and what running beside another worker (its input, its messages) adds.
    """
    one, half, two = run["one core"], run["half batch"], run[TOGETHER]
    whole = 2 * _step(two)
    told = {name: (2 * two[name] - one[name]) / whole for name in two}
    smaller = sum(2 * half[name] - one[name] for name in MODEL) / whole
    beside = sum(told.pop(name) for name in MODEL) - smaller
    return {"model: smaller batch": smaller, "model: side by side": beside} | told


def table(data: dict) -> str:
    """Speed, parts and losses, as Markdown."""
    head = (
        "# From one worker to two\n\n"
        f"`python -m benchmarks.scaling`, {data['machine']}, {data['date']}; {data['model']}, "
        f"`{data['method']}`, {SIDE}-pixel pictures, the median of {data['rounds']} rounds in "
        "turns. Milliseconds of a step.\n"
    )
    return "\n".join([head, *(_batch(int(batch), run) for batch, run in data["runs"].items())])


def _batch(batch: int, run: Run) -> str:
    two = _step(run[TOGETHER])
    one, input_beside, threads = (
        _step(run[name]) / two for name in ("one core", "one worker", "two threads")
    )
    shares = {"half batch": 0.5}
    rates = (shares.get(name, 1) * batch / _step(told) for name, told in run.items())
    lines = [
        f"## Batch of {batch}\n",
        f"Efficiency {one / 2:.0%}: two workers are {one:.2f} times as fast as one that is held to "
        f"one core, {input_beside:.2f} times as fast as one whose input is made on the other, "
        f"{threads:.2f} times as fast as one of two threads.\n",
        "| | " + " | ".join(run) + " | lost |",
        "|---|" + "---|" * (len(run) + 1),
    ]
    lost = losses(run)
    for name in run[TOGETHER]:
        cells = [f"{1e3 * told[name]:.1f}" for told in run.values()]
        lines.append(f"| {name} | " + " | ".join([*cells, _percent(lost.get(name))]) + " |")
    blank = " |" * (len(run) + 1)
    lines += [f"| {name}{blank} {_percent(lost[name])} |" for name in lost if ":" in name]
    whole = [f"{1e3 * _step(told):.1f}" for told in run.values()]
    lines.append("| together | " + " | ".join([*whole, _percent(sum(lost.values()))]) + " |")
    lines.append("| images/s | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " | |")
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:+.1%}"


def _step(told: dict[str, float]) -> float:
    return sum(told.values())


if __name__ == "__main__":
    main()
