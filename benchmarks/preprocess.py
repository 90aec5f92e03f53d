"""Preprocess against a plain process pool that does the same work, and its memory.

    python -m benchmarks.preprocess                     speed, on photographs of 1200 x 900 pixels
    python -m benchmarks.preprocess --memory            120,000 images, some of them very large

Speed: each round is a process of its own, Ray and the pool in turn, on two cores; what starting Ray
or the pool takes (workers, imports) is told apart; what Ray Data takes to begin a data set (about
a second) is not. The photographs are Cars196's, enlarged. Memory: the sum of the proportional set
sizes of the process and all its children (Ray's object store is in it), five times a second. Both
write into one file of results.
"""

import argparse
import hashlib
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks.support.photographs import QUALITY, large_images, photographs
from rhs.config.compose import compose
from rhs.preprocessing.prepare_image import prepare_image
from rhs.tracking.hardware import describe_hardware

PROCESSES = 2
SAMPLE = 0.2  # seconds
TENTHS = 10


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, help="default: 2000; with --memory 120000")
    arguments.add_argument("--side", type=int, default=900, help="shorter side of a photograph")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--memory", action="store_true")
    arguments.add_argument("--large-every", type=int, default=60, help="one of 12 megapixels in")
    arguments.add_argument("--huge-every", type=int, default=6000, help="one of 100 megapixels in")
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/preprocess.md"))
    arguments.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    arguments.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.run:
        print(json.dumps(RUNS[options.run](options.raw)))
        return
    options.images = options.images or (120_000 if options.memory else 2000)
    title, lines = ("Memory", memory(options)) if options.memory else ("Speed", speed(options))
    write(options.out, title, lines)


def speed(options: argparse.Namespace) -> list[str]:
    """Images per second of Ray and of the pool, and the peak memory of both."""
    with tempfile.TemporaryDirectory(prefix="rhs-benchmark-") as folder:
        raw = photographs(Path(folder), options.images, options.side)
        seen: dict[str, list[dict]] = {name: [] for name in RUNS}
        for _ in tqdm(range(options.rounds), "rounds", disable=None):
            for name, results in seen.items():
                results.append(measured(name, raw)[0])
        peaks = {name: max(measured(name, raw, sample=True)[1]) for name in RUNS}
    width = options.side * 4 // 3
    lines = [
        f"{options.images:,} JPEGs of {width} x {options.side} pixels (quality {QUALITY}), "
        f"{PROCESSES} processes; median of {options.rounds} rounds, the two in turn.",
        "",
        "| | images/s | range | start, s | peak memory, MiB |",
        "|---|---|---|---|---|",
    ]
    rates = {n: [options.images / r["seconds"] for r in results] for n, results in seen.items()}
    for name, results in seen.items():
        start = statistics.median(result["start"] for result in results)
        middle, low, high = statistics.median(rates[name]), min(rates[name]), max(rates[name])
        lines.append(
            f"| {name} | {middle:,.1f} | {low:,.1f} to {high:,.1f} | {start:.1f} | "
            f"{peaks[name]:,.0f} |"
        )
    ratio = statistics.median(a / b for a, b in zip(rates["ray"], rates["pool"], strict=True))
    return [*lines, "", f"Ray / pool, median of the rounds' ratios: {ratio:.2f}."]


def memory(options: argparse.Namespace) -> list[str]:
    """The highest memory in each tenth of the time."""
    with tempfile.TemporaryDirectory(prefix="rhs-benchmark-") as folder:
        raw, counts = large_images(
            Path(folder), options.images, options.large_every, options.huge_every
        )
        result, curve = measured("ray", raw, sample=True)
    tenths = [
        max(curve[len(curve) * i // TENTHS : max(1, len(curve) * (i + 1) // TENTHS)])
        for i in range(TENTHS)
    ]
    return [
        f"{options.images:,} images: {counts}. {PROCESSES} processes, {result['seconds']:,.0f} s.",
        "",
        f"Peak: {max(curve) / 1024:.2f} GiB. The highest in each tenth of the time, MiB: "
        + ", ".join(f"{tenth:,.0f}" for tenth in tenths)
        + ".",
    ]


def measured(name: str, raw: Path, sample: bool = False) -> tuple[dict, list[float]]:
    """What a run in a process of its own says, and MiB over time if that is to be sampled."""
    command = [sys.executable, "-m", "benchmarks.preprocess", f"--run={name}", f"--raw={raw}"]
    curve = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            while sample and process.poll() is None:
                curve.append(tree_mebibytes(psutil.Process(process.pid)))
                time.sleep(SAMPLE)
            said = process.communicate()[0]
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        sys.exit(f"the run {name!r} failed")
    return json.loads(said.splitlines()[-1]), curve


def tree_mebibytes(root: psutil.Process) -> float:
    """Sum of the proportional set sizes of a process and all that it started."""
    total = 0
    try:
        for process in [root, *root.children(recursive=True)]:
            total += _pss(process)
    except psutil.NoSuchProcess:
        pass  # it ended while we counted; the next sample is right
    return total / 2**20


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0


def run_ray(raw: Path) -> dict[str, float]:
    start = time.perf_counter()
    import ray.data

    from rhs.distributed.ray_cluster import connect
    from rhs.preprocessing.preprocess import preprocess

    connect(compose([f"cluster.num_cpus={PROCESSES}"]).cluster)
    blocks = [pa.table({"row": [i]}) for i in range(4 * PROCESSES)]
    ray.data.from_arrow(blocks).map_batches(imported, batch_format="pyarrow").materialize()
    ready = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="rhs-benchmark-") as folder:
        preprocess(raw, Path(folder, "out"), across_classes="keep")
        end = time.perf_counter()
    return {"start": ready - start, "seconds": end - ready}


def imported(rows: pa.Table) -> pa.Table:
    """Rows as they are, from a worker that is up and has imported what it needs."""
    import rhs.preprocessing.prepare_rows

    assert rhs.data.prepare.prepare_rows
    return rows


def run_pool(raw: Path) -> dict[str, float]:
    """Read, check, prepare in a pool; write Parquet files of 4096 rows here."""
    start = time.perf_counter()
    index = pq.read_table(raw / "index.parquet").to_pylist()
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(abs, range(100 * PROCESSES))  # they are up
        ready = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="rhs-benchmark-") as folder:
            rows, number = [], 0
            for row in pool.imap(prepared, index, chunksize=16):
                rows.append(row)
                if len(rows) == 4096:
                    pq.write_table(pa.Table.from_pylist(rows), Path(folder, f"{number}.parquet"))
                    rows, number = [], number + 1
            pq.write_table(pa.Table.from_pylist(rows), Path(folder, f"{number}.parquet"))
            end = time.perf_counter()
    return {"start": ready - start, "seconds": end - ready}


def prepared(row: dict) -> dict:
    data = Path(row["file"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == row["sha256"]
    image = prepare_image(data, 256, 95)
    return {**row, "image": image.data, "width": image.width, "height": image.height}


def write(path: Path, title: str, lines: list[str]) -> None:
    """Put a section into the file of results; the other sections stay as they are."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith("--out")]
    command = " ".join(["python -m benchmarks.preprocess", *given])
    about = [f"Command: `{command}`", f"Machine: {describe_hardware()}. Date: {date.today()}.", ""]
    sections = {}
    if path.exists():
        for part in path.read_text().split("## ")[1:]:
            sections[part.split("\n", 1)[0]] = "## " + part.strip()
    sections[title] = "\n".join([f"## {title}", "", *about, *lines])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(sections[name] for name in sorted(sections)) + "\n")
    print(sections[title])


RUNS = {"ray": run_ray, "pool": run_pool}

if __name__ == "__main__":
    main()
