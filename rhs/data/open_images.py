"""Which way images come to training: `cluster.input`. The batches are the same on every way."""

import os
import shutil
from pathlib import Path

from rhs.config.settings import ClusterConfig
from rhs.data.decoded_cache import GIB, DecodedImages, cache_path, decoded_size
from rhs.data.shards import ShardedImages
from rhs.errors import UserError
from rhs.storage.store import is_url


def check_input(cluster: ClusterConfig) -> None:
    """Raises UserError where the settings of the input cannot work."""
    if cluster.input == "ray" and is_url(cluster.storage):
        raise UserError(
            "cluster.input = ray reads the shards on any node, but with the URL in cluster.storage "
            "only nodes with a worker have them: choose cluster.input=auto, or a folder that all "
            "nodes see as cluster.storage."
        )


def input_threads(cluster: ClusterConfig) -> int:
    """How many batches a worker has in the making: one for each of its processors."""
    return cluster.input_threads or max(1, int(cluster.resources_per_worker.get("CPU", 1)))


def open_images(shards: Path, split: str, cluster: ClusterConfig) -> ShardedImages:
    """The images of a split, decoded once if `cluster.input` says so.

    "auto" does so where they are there already, or take at most `cluster.decoded_gib` and half of
    what is free on the disk of `cluster.cache_folder`.
    """
    way, cache = cluster.input, Path(cluster.cache_folder)
    if way == "decoded" or (way == "auto" and cache_path(shards, split, cache).exists()):
        return DecodedImages(shards, split, cache, input_threads(cluster))
    images = ShardedImages(shards, split)
    if way == "auto" and decoded_size(images) <= _room(cache, cluster.decoded_gib):
        return DecodedImages(shards, split, cache, input_threads(cluster))
    return images


def _room(cache: Path, most_gib: float) -> float:
    """Bytes that decoded images may take in `cache`; -1 where no folder can be made or written."""
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError:
        return -1
    return min(most_gib * GIB, free / 2) if os.access(cache, os.W_OK) else -1
