"""Images per second that reach training, and whether each comes as often as planned.

    python -m benchmarks.loader

Photographs (Cars196, enlarged to a shorter side of 256 pixels, JPEG quality 95) are decoded,
cropped at random, flipped and batched in every way that `cluster.input` offers, beside

(a) the limit: nothing but decoding and cropping, in one process for each processor, and
(b) torchvision: ImageFolder + RandomResizedCrop + flip + DataLoader on the same files.

All take turns in one run, and a ratio is the median over rounds. Then the audit: over three epochs,
on 1, 2 and 4 workers, the images drawn are counted and compared with the plan.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.support.photographs import SHORT_SIDE, shards_and_folders
from rhs.config.compose import compose
from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.decode import decode
from rhs.data.decoded_cache import DecodedImages
from rhs.data.loader import TrainLoader
from rhs.data.ray_loader import RayTrainLoader
from rhs.data.shards import ShardedImages
from rhs.data.transforms import Augmentation
from rhs.distributed.ray_cluster import connect
from rhs.memory import keep_freed_memory
from rhs.models.trunks import declare_torchvision
from rhs.tracking.hardware import describe_hardware

PER_CLASS, BATCH = 4, 64
SCALE, RATIO = (0.2, 1.0), (0.75, 1.33)
AUGMENTATION = Augmentation(SCALE, RATIO, flip=True)
OURS = ("decoded", "shards", "ray")
NAMES = {
    "decoded": "ours, decoded once (`cluster.input=decoded`)",
    "shards": "ours, decoded as needed (`cluster.input=shards`)",
    "ray": "ours, made by Ray Data (`cluster.input=ray`)",
    "bare": "decode + crop alone, one process a core",
    "bare decoded": "crop alone, one process a core",
    "torchvision": "ImageFolder, DataLoader, ToTensor (float32)",
    "torchvision uint8": "the same without ToTensor (PILToTensor)",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=1536)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--cores", type=int, default=2)
    arguments.add_argument("--sizes", default="128,224")
    arguments.add_argument("--audited", type=Path, default=Path("data/shards/glyphs"))
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/loader.md"))
    options = arguments.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    connect(compose([f"cluster.num_cpus={options.cores}"]).cluster)
    scratch = Path(tempfile.mkdtemp(prefix="rhs-loader-"))
    try:
        shards_and_folders(scratch, options.images, PER_CLASS)
        tables = [
            rates(scratch, int(size), options.rounds, options.cores)
            for size in options.sizes.split(",")
        ]
    finally:
        shutil.rmtree(scratch)
    text = "\n".join([heading(options), *tables, audit(options.audited)])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    print(text)


def rates(scratch: Path, size: int, rounds: int, cores: int) -> str:
    """A table of images per second at `size` pixels."""
    shards = scratch / "shards"
    images = ShardedImages(shards, "train")
    plan = BalancedBatchSampler(images.labels, BATCH // PER_CLASS, PER_CLASS, seed=0)
    cached = DecodedImages(shards, "train", scratch / "decoded", cores)
    what = (plan, AUGMENTATION, size, 0, 1, cores)
    loaders = {
        "decoded": TrainLoader(cached, *what),
        "shards": TrainLoader(images, *what),
        "ray": RayTrainLoader(shards, images, *what),
    }
    ways: dict[str, Callable[[int], float]] = {
        name: lambda turn, loader=loader: _rate(loader.epoch(turn))
        for name, loader in loaders.items()
    }
    for name, normal in (("torchvision", False), ("torchvision uint8", True)):
        theirs = torchvision_loader(scratch / "folder", size, cores, normal)
        ways[name] = lambda turn, theirs=theirs: _rate(iter(theirs))
    with get_context("spawn").Pool(cores, torch.set_num_threads, (1,)) as pool:
        for name, where in (("bare", None), ("bare decoded", scratch / "decoded")):
            work = [(shards, where, part, cores, size) for part in range(cores)]
            ways[name] = lambda turn, work=work: _together(pool, work)
        seen: dict[str, list[float]] = {name: [] for name in ways}
        for turn in tqdm(range(rounds + 1), f"{size} px", disable=None):
            for name, way in ways.items():
                seen[name].append(way(turn))
    return table(size, {name: values[1:] for name, values in seen.items()})  # the first warms up


def _rate(batches: Iterator) -> float:
    """Images per second from the second batch on, as training sees them after its first step."""
    next(batches)
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch[0])
    return count / (time.perf_counter() - start)


def _together(pool, work: list[tuple]) -> float:
    start = time.perf_counter()
    counts = pool.starmap(bare, work)
    return sum(counts) / (time.perf_counter() - start)


def bare(shards: Path, cache: Path | None, part: int, parts: int, size: int) -> int:
    """Decode (unless they are decoded) and crop a share of the images, and keep nothing."""
    keep_freed_memory()
    images = DecodedImages(shards, "train", cache) if cache else ShardedImages(shards, "train")
    rows = range(part, len(images), parts)
    for i in rows:
        pixels = images.decode(i) if cache else decode(images.bytes(i))
        AUGMENTATION(pixels, size, np.random.default_rng([0, i]))
    return len(rows)


def torchvision_loader(folder: Path, size: int, cores: int, keep_uint8: bool):
    """What a user of torchvision writes, with a process for each core."""
    declare_torchvision()
    from torchvision import datasets, transforms

    to_tensor = transforms.PILToTensor() if keep_uint8 else transforms.ToTensor()
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, SCALE, RATIO),
            transforms.RandomHorizontalFlip(),
            to_tensor,
        ]
    )
    images = datasets.ImageFolder(folder, transform)
    return torch.utils.data.DataLoader(
        images, BATCH, shuffle=True, drop_last=True, num_workers=cores, persistent_workers=True
    )


def table(size: int, seen: dict[str, list[float]]) -> str:
    """Medians, and medians of the ratios within a round."""

    def ratio(name: str, other: str) -> str:
        pairs = zip(seen[name], seen[other], strict=True)
        return f"{statistics.median(a / b for a, b in pairs):.2f} x"

    lines = [
        f"\n## {size} x {size} pixels\n",
        "| | images/s | of the limit | of torchvision | of torchvision, uint8 |",
        "|---|---|---|---|---|",
    ]
    for name, title in NAMES.items():
        ratios = [ratio(name, o) for o in ("bare", "torchvision", "torchvision uint8")]
        cells = ratios if name in OURS else ["", "", ""]
        lines.append(f"| {title} | {statistics.median(seen[name]):,.0f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


class Drawn(ShardedImages):
    """The images of a split, whose pixels are their own number."""

    def decode(self, i: int) -> np.ndarray:
        return np.frombuffer(int(i).to_bytes(3, "little"), dtype=np.uint8).reshape(1, 1, 3).copy()


def audit(shards: Path) -> str:
    """Count what three epochs draw, by the pixels that arrive, on 1, 2 and 4 workers."""
    images = Drawn(shards, "train")
    train = compose([]).train
    plan = BalancedBatchSampler(images.labels, train.classes, train.per_class, seed=0)
    planned = Counter(
        (epoch, int(i))
        for epoch in range(3)
        for step in range(plan.steps)
        for i in plan.batch(epoch, step).index
    )
    lines = [
        f"\n## Audit: three epochs of {shards.name}, {len(images):,} training images\n",
        "| workers | images drawn | as planned | images of a class of two or more never drawn |",
        "|---|---|---|---|",
    ]
    usable = set(np.flatnonzero(np.bincount(images.labels)[images.labels] > 1).tolist())
    for workers in (1, 2, 4):
        drawn: Counter[tuple[int, int]] = Counter()
        for rank in range(workers):
            loader = TrainLoader(images, plan, Augmentation(), 1, rank, workers)
            for epoch in range(3):
                for pixels, _ in loader.epoch(epoch):
                    ids = pixels[:, :, 0, 0].long() @ torch.tensor([1, 256, 65536])
                    drawn.update((epoch, i) for i in ids.tolist())
        missed = sum((epoch, i) not in drawn for epoch in range(3) for i in usable)
        right = "yes" if drawn == planned else "NO"
        lines.append(f"| {workers} | {drawn.total():,} | {right} | {missed} |")
    return "\n".join(lines) + "\n"


def heading(options: argparse.Namespace) -> str:
    return (
        "# Input to training\n\n"
        f"`python -m benchmarks.loader`, {describe_hardware()}, {date.today()}; {options.images:,} "
        f"photographs of a shorter side of {SHORT_SIDE} pixels, batches of {BATCH}, "
        f"{options.cores} threads or processes, medians of {options.rounds} rounds in turns. "
        "The limit is decoding and cropping alone, one process a core.\n"
    )


if __name__ == "__main__":
    main()
