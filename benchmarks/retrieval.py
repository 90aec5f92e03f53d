"""Retrieval metrics at the size of Stanford Online Products, against other libraries.

    python -m benchmarks.retrieval --oml=PYTHON           all, three rounds in turn
    python -m benchmarks.retrieval --only=ours,faiss10 --size=0.1 --rounds=1 --out=/tmp/try.md
    python -m benchmarks.retrieval --million              ours, 1,000,000 x 128, 200,000 classes
    python -m benchmarks.retrieval --device=cuda          ours, product and faiss on a GPU

Every measurement is a process of its own: seconds of the computing alone, after a call on 400
classes that loads what is loaded once, and resident memory at the peak beyond what was held before,
which is the embeddings and the libraries. PYTHON is the interpreter of an environment that has
open-metric-learning, which asks for an older NumPy.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.retrieval_peers import CONTENDERS, KS
from rhs.tracking.hardware import describe_hardware

RESULTS = Path("benchmarks/results")
# Rows, dimensions, classes; the noise that leaves Recall@1 near 80 % (found by trying).
PRODUCTS = (60_502, 512, 11_316, 2.14)
MILLION = (1_000_000, 128, 200_000, 1.20)
SPREAD = 0.3  # of the noise from image to image: then some queries are far from their class
SIZES = (2, 12)  # images a class, as in Stanford Online Products
BLOCK = 1 << 16
ON_GPU = ("ours", "product", "faiss10", "faiss1000")
DEFINITIONS = {
    "ours": "`rhs.metrics.retrieval.score`, without intervals",
    "untied": "ours, with similarities told apart that differ by less than 1e-6",
    "product": "the bare float32 product of all rows, in blocks (torch); no metric",
    "faiss10": "faiss `IndexFlatIP`, k = 10, and NumPy",
    "faiss1000": "faiss `IndexFlatIP`, k = 1000, and NumPy",
    "pml": 'pytorch-metric-learning `AccuracyCalculator(k="max_bin_count")`',
    "pml1000": "the same, k = 1000, with Recall@K added",
    "oml1000": "open-metric-learning `batched_knn` and `calc_retrieval_metrics_rr`, k = 1000",
    "sklearn1000": "scikit-learn `NearestNeighbors`, brute force, cosine, k = 1000, and NumPy",
}
NOTES = (
    "- `AccuracyCalculator` has no Recall@K; for k = 1000 it is added as a metric of one's own, "
    "from the neighbors that it finds anyway. Its default k, all rows, is not tried: the lists "
    "alone would take N x N x 12 bytes.",
    "- open-metric-learning has Recall@K (as CMC) and precision; its MAP@k divides by the right "
    "items found, not by R, and is another metric.",
    "- faiss and scikit-learn find neighbors; their metrics are made of them with NumPy, in the "
    "same time. k = 10 is too short for R-precision and MAP@R, R being up to 11.",
    "- Ours counts similarities within 1e-6 as tied, and a query with its mean over their orders; "
    "the others take what float32 rounding gives. `untied` tells all apart: what is left of a "
    "difference there is theirs.",
    "- Memory is the process's own, above the embeddings and loaded libraries.",
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", type=lambda text: text.split(","), default=None)
    arguments.add_argument("--size", type=float, default=1.0, help="share of the rows and classes")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--million", action="store_true")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--oml", help="interpreter that has open-metric-learning")
    arguments.add_argument("--limit", type=float, default=3600, help="seconds for one process")
    arguments.add_argument("--out", type=Path, help="default: " + str(RESULTS / "retrieval.md"))
    options = arguments.parse_args()
    options.only = options.only or _contenders(options)
    unknown = set(options.only) - set(CONTENDERS)
    if unknown:
        arguments.error(f"--only has {', '.join(unknown)}; there are {', '.join(CONTENDERS)}.")
    rows, dim, classes, noise = MILLION if options.million else PRODUCTS
    rows, classes = round(rows * options.size), round(classes * options.size)
    with tempfile.TemporaryDirectory(prefix="rhs-benchmark-") as folder:
        x_ND, labels_N = embeddings(rows, dim, classes, noise)
        np.save(f"{folder}/embeddings.npy", x_ND)
        np.save(f"{folder}/labels.npy", labels_N)
        sizes = f"{rows:,} x {dim}, {classes:,} classes of {SIZES[0]} to {SIZES[1]}"
        del x_ND, labels_N
        seen = measure_all(Path(folder), options)
    text = "\n".join(report(sizes, seen, options)) + "\n"
    out = options.out or RESULTS / _file(options)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(text)


def _contenders(options: argparse.Namespace) -> list[str]:
    if options.million:
        return ["ours"]
    if options.device != "cpu":
        return list(ON_GPU)
    return [name for name in CONTENDERS if name != "oml1000" or options.oml]


def _file(options: argparse.Namespace) -> str:
    million = "_million" if options.million else ""
    return f"retrieval{million}{'' if options.device == 'cpu' else '_gpu'}.md"


def embeddings(rows: int, dim: int, classes: int, noise: float, seed: int = 0) -> tuple:
    """Unit float32 rows [N, D] around random centers, shuffled, and their labels [N]."""
    random = np.random.default_rng(seed)
    labels_N = random.permutation(np.repeat(np.arange(classes), class_sizes(random, rows, classes)))
    centers_CD = random.standard_normal((classes, dim), dtype=np.float32)
    x_ND = np.empty((rows, dim), dtype=np.float32)
    for first in range(0, rows, BLOCK):
        some = labels_N[first : first + BLOCK]
        away = noise * np.exp(SPREAD * random.standard_normal((len(some), 1), dtype=np.float32))
        block = centers_CD[some]
        block += away * random.standard_normal(block.shape, dtype=np.float32)
        x_ND[first : first + BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return x_ND, labels_N


def class_sizes(random: np.random.Generator, rows: int, classes: int) -> np.ndarray:
    """2 to 12 images a class [C], of the mean that is asked for, `rows` in all."""
    least, most = SIZES
    sizes_C = np.clip(least + random.poisson(rows / classes - least, size=classes), least, most)
    while missing := rows - sizes_C.sum():
        free = np.flatnonzero(sizes_C < most if missing > 0 else sizes_C > least)
        sizes_C[random.permutation(free)[: abs(missing)]] += np.sign(missing)
    return sizes_C


def measure_all(folder: Path, options: argparse.Namespace) -> dict[str, list[dict]]:
    """Every contender's results, a round after the other; a failed one is not tried again."""
    seen: dict[str, list[dict]] = {name: [] for name in options.only}
    for _ in range(options.rounds):
        for name in tqdm(options.only, disable=None):
            if not any("failed" in result for result in seen[name]):
                seen[name].append(_measured(name, folder, options))
    return seen


def _measured(name: str, folder: Path, options: argparse.Namespace) -> dict:
    python = options.oml if name == "oml1000" and options.oml else sys.executable
    command = [python, "-m", "benchmarks.retrieval_peers", name, str(folder), options.device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {options.limit:,.0f} s"}
    if done.returncode:
        said = done.stderr.strip().splitlines() or [""]
        killed = f"ended by signal {-done.returncode} (9: out of memory) "
        return {"failed": (killed if done.returncode < 0 else "") + said[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(sizes: str, seen: dict[str, list[dict]], options: argparse.Namespace) -> list[str]:
    """Time, memory and every metric, as Markdown."""
    first = {name: results[0] for name, results in seen.items()}
    good = {name: result for name, result in first.items() if "failed" not in result}
    versions = sorted(
        {r["version"] for name, r in good.items() if name not in ("ours", "untied", "product")}
    )
    lines = [
        f"Command: `{_command(options)}`",
        f"Machine: {describe_hardware()}. Date: {date.today()}. Device: {options.device}.",
        f"{sizes}; median (and range) of {options.rounds} round(s), in turn.",
        *([f"Versions: {', '.join(versions)}."] if versions else []),
        "",
        "| | | seconds | times ours | MiB beyond the embeddings |",
        "|---|---|---|---|---|",
    ]
    mine = _seconds(seen["ours"]) if "ours" in good else None
    for name, results in seen.items():
        lines.append(f"| {name} | {DEFINITIONS[name]} | {_cells(results, mine)} |")
    if not options.million and options.device == "cpu" and "oml1000" not in seen:
        lines += ["", "Not measured: open-metric-learning (see `--oml`)."]
    lines += _values({name: result["metrics"] for name, result in good.items()})
    return [*lines, "", *NOTES] if len(seen) > 1 else lines


def _command(options: argparse.Namespace) -> str:
    words = ["python -m benchmarks.retrieval"]
    if options.only != _contenders(options):
        words.append(f"--only={','.join(options.only)}")
    if options.size != 1:
        words.append(f"--size={options.size:g}")
    words += ["--million"] if options.million else []
    words += [f"--device={options.device}"] if options.device != "cpu" else []
    return " ".join([*words, *(["--oml=PYTHON"] if "oml1000" in options.only else [])])


def _seconds(results: list[dict]) -> float:
    return statistics.median(result["seconds"] for result in results if "seconds" in result)


def _cells(results: list[dict], mine: float | None) -> str:
    if "failed" in results[-1]:
        return f"failed: {results[-1]['failed'].replace('|', ' ')} | |"
    every = [result["seconds"] for result in results]
    memory = f"{max(result['mib'] for result in results):,.0f}"
    if results[0]["gpu_mib"] is not None:
        memory += f" (GPU, torch's: {max(result['gpu_mib'] for result in results):,.0f} with them)"
    ratio = f"{_seconds(results) / mine:.2f}" if mine else ""
    middle = f"{_seconds(results):.1f} ({min(every):.1f} to {max(every):.1f})"
    return f"{middle} | {ratio} | {memory}"


def _values(made: dict[str, dict[str, float]]) -> list[str]:
    """Every metric of every contender, and how far they are from ours."""
    made = {name: values for name, values in made.items() if values}
    names = [f"recall@{k}" for k in KS] + ["precision@1", "r_precision", "map@r"]
    titles = ["", *names, "largest difference from ours", "from untied"]
    lines = ["", "| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"] if made else []
    for name, values in made.items():
        cells = [f"{values[each]:.6f}" if each in values else "" for each in names]
        cells += [_away(values, made.get(base)) for base in ("ours", "untied")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _away(values: dict[str, float], base: dict[str, float] | None) -> str:
    return f"{max(abs(values[each] - base[each]) for each in values):.1e}" if base else ""


if __name__ == "__main__":
    main()
