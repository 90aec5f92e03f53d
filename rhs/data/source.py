"""Which way images come to training: `cluster.input`. The batches are the same on every way."""

import shutil
from pathlib import Path
from typing import Any

from rhs.data.decoded import GIB, DecodedImages, decoded_size, place
from rhs.data.shards import ShardedImages
from rhs.errors import UserError, number

WAYS = ("auto", "decoded", "shards", "ray")


def check_input(cluster: dict[str, Any]) -> None:
    """Raises UserError where the settings of the input cannot work."""
    if cluster["input"] not in WAYS:
        raise UserError(f"cluster.input is {cluster['input']!r}; accepted: {', '.join(WAYS)}.")
    if cluster["input_threads"] is not None:
        number("cluster.input_threads", cluster["input_threads"], least=1, whole=True)
    number("cluster.decoded_gib", cluster["decoded_gib"], least=0)


def input_threads(cluster: dict[str, Any]) -> int:
    """How many batches a worker has in the making: one for each of its processors."""
    return cluster["input_threads"] or max(1, int(cluster["resources_per_worker"].get("CPU", 1)))


def open_images(shards: Path, split: str, cluster: dict[str, Any]) -> ShardedImages:
    """The images of a split, decoded once if `cluster.input` says so.

    "auto" does so where they are there already, or take at most `cluster.decoded_gib` and half of
    what is free on the disk of `cluster.decoded_folder`.
    """
    images, cache = ShardedImages(shards, split), Path(cluster["decoded_folder"])
    way = cluster["input"]
    if way == "auto":
        cache.mkdir(parents=True, exist_ok=True)
        most = min(cluster["decoded_gib"] * GIB, shutil.disk_usage(cache).free / 2)
        fits = place(shards, split, cache).exists() or decoded_size(images) <= most
        way = "decoded" if fits else "shards"
    if way == "decoded":
        return DecodedImages(shards, split, cache, input_threads(cluster))
    return images
