"""Time of every method's objective, forward and backward, against a bare product and its peers.

    python -m benchmarks.speed                         every method with pairs or triplets
    python -m benchmarks.speed --batches=512 --methods=npair,symm_npair,rhs_npair
    python -m benchmarks.speed --device=cuda

The bare product is (x @ x.T).exp().sum() and its gradient; a peer is the loss of
pytorch-metric-learning of the same kind. All are timed in turn, round after round, in one process,
so that what disturbs one disturbs all; the table has the median. Embeddings of 512 dimensions,
float32, four a class.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from rhs.config.compose import compose
from rhs.methods import diagnostics
from rhs.methods.objective import build_objective
from rhs.tracking.hardware import describe_hardware

DIM, PER_CLASS = 512, 4
NOT_TIMED = ("pml",)  # the peer itself
SLOW = {"lifted": 128}  # beyond this batch size the peer takes minutes, then all memory
Step = Callable[[], None]


def peers(batch: int, device: str) -> dict[str, Callable]:
    """loss(embeddings, labels) of the other library, by the name of our method."""
    from pytorch_metric_learning import losses, miners

    def mined(loss, miner):
        return lambda x, labels: loss(x, labels, miner(x, labels))

    triplet = losses.TripletMarginLoss(margin=0.2)
    signatures = losses.NormalizedSoftmaxLoss(batch // PER_CLASS, DIM).to(device)
    return {
        "npair": losses.NPairsLoss(),
        "contrastive": losses.ContrastiveLoss(),
        "triplet": triplet,
        "triplet_hard": mined(triplet, miners.BatchHardMiner()),
        "triplet_semi_hard": mined(triplet, miners.TripletMarginMiner(0.2, "semihard")),
        "multi_similarity": losses.MultiSimilarityLoss(),
        "lifted": losses.LiftedStructureLoss(),
        "lifted_generalized": losses.GeneralizedLiftedStructureLoss(),
        "margin": losses.MarginLoss(),
        "angular": losses.AngularLoss(),
        "normalized_softmax": signatures,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batches", type=_numbers, default="128,512,2048")
    arguments.add_argument("--methods", type=lambda text: text.split(","), default=None)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/speed.md"))
    options = arguments.parse_args()
    files = sorted(path.stem for path in Path("conf/method").glob("*.yaml"))
    methods = options.methods or [name for name in files if name not in NOT_TIMED]
    times = {batch: measure(methods, batch, options) for batch in options.batches}
    text = table(methods, times, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    print(text)


def measure(methods: list[str], batch: int, options: argparse.Namespace) -> dict[str, float]:
    """Median milliseconds of one forward and backward, by name."""
    device = options.device
    x, labels = sample(batch, device)

    def bare() -> None:
        (x @ x.T).exp().sum().backward()

    steps: dict[str, Step] = {"bare": bare}
    steps["diagnostics"] = lambda: diagnostics.of_batch(x.detach(), labels)  # part of every method
    for name in methods:
        steps[name] = step_of(name, x, labels)
    for name, loss in peers(batch, device).items():
        if name in methods and batch <= SLOW.get(name, batch):
            steps[f"{name} (peer)"] = _theirs(loss, x, labels)
    seen: dict[str, list[float]] = {name: [] for name in steps}
    for _ in tqdm(range(options.rounds + 1), f"batch of {batch}", disable=None):
        for name, step in steps.items():
            x.grad = None
            start = _now(device)
            step()
            seen[name].append(1000 * (_now(device) - start))
    return {name: statistics.median(values[1:]) for name, values in seen.items()}


def sample(batch: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit embeddings [B, D] of clustered classes, and their labels."""
    labels = torch.arange(batch) // PER_CLASS
    torch.manual_seed(0)
    x = torch.randn(batch // PER_CLASS, DIM)[labels] + torch.randn(batch, DIM)
    return F.normalize(x).to(device).requires_grad_(), labels.to(device)


def step_of(name: str, x: torch.Tensor, labels: torch.Tensor, tile: int | None = None) -> Step:
    """Forward and backward of a method of conf/method/."""
    objective = build_objective(compose([f"method={name}"]).method | {"tile": tile})
    classes = len(labels) // PER_CLASS
    objective.prepare(classes, DIM, values_CL=torch.rand(classes, 1))
    objective.to(x.device)
    if objective.needs_refresh(0):
        objective.refresh(0, [(x.detach(), labels)])
    return lambda: objective(x, labels, 0.5)[0].backward()


def _theirs(loss: Callable, x: torch.Tensor, labels: torch.Tensor) -> Step:
    return lambda: loss(x, labels).backward()


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def table(methods: list[str], times: dict[int, dict[str, float]], options) -> str:
    """Milliseconds and ratios, as Markdown."""
    command = "python -m benchmarks.speed"
    if options.device != "cpu":
        command += f" --device={options.device}"
    lines = [
        f"Command: `{command}`",
        f"Machine: {describe_hardware()}. Date: {date.today()}. Device: {options.device}.",
        f"D = {DIM}, float32, {PER_CLASS} a class; median of {options.rounds} rounds.",
        "",
        "Each cell: milliseconds (times the bare product; times the peer, where there is one).",
        "",
        "| method | " + " | ".join(f"B = {batch}" for batch in times) + " |",
        "|---|" + "---|" * len(times),
    ]
    lines += [
        f"| {name} | " + " | ".join(_cell(name, t) for t in times.values()) + " |"
        for name in ["bare", "diagnostics", *methods]
    ]
    lines += [
        "",
        "Against the N-pair loss on the same pairs (`npair`), and on all pairs of the batch "
        "(`npair_all`):",
        "",
        "| method | " + " | ".join(f"B = {batch}" for batch in times) + " |",
        "|---|" + "---|" * len(times),
    ]
    generating = [m for m in methods if m.startswith(("symm_npair", "rhs_npair"))]
    for name in generating if {"npair", "npair_all"} <= set(methods) else []:
        ratios = (_against(name, t) for t in times.values())
        lines.append(f"| {name} | " + " | ".join(ratios) + " |")
    return "\n".join(lines) + "\n"


def _against(name: str, times: dict[str, float]) -> str:
    return " / ".join(f"{times[name] / times[plain]:.2f}" for plain in ("npair", "npair_all"))


def _cell(name: str, times: dict[str, float]) -> str:
    own, peer = times[name], times.get(f"{name} (peer)")
    against = f"; {own / peer:.2f} x of {peer:,.1f}" if peer else ""
    return f"{own:,.1f} ({own / times['bare']:.2f} x{against})"


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
