"""Shards -> embeddings with Ray Data: what its workers do, and the stream that comes back.

A batch never crosses the edge of a shard. What a network makes of an image depends, in the last
bits, on the images beside it; so a shard has the same embeddings whichever others are embedded.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rhs.config.settings import ClusterConfig, Params
from rhs.distributed.ray_cluster import ordered_and_quiet, workers_of
from rhs.errors import UserError
from rhs.memory import keep_freed_memory
from rhs.models.embedder import build_embedder, load_config, load_embedder
from rhs.storage.object_store import ObjectStore
from rhs.storage.store import is_url

BLOCK_BYTES = 2**21  # of images that an embedding worker is given at a time, or one batch
TASKS = pa.schema([("task", pa.int32()), ("file", pa.string()), ("untrained", pa.bool_())])
READ = pa.schema(
    [("task", pa.int32()), ("untrained", pa.bool_()), ("images", pa.list_(pa.binary()))]
)
MADE = pa.schema([("task", pa.int32()), ("trained", pa.binary()), ("untrained", pa.binary())])


@dataclass(frozen=True)
class Task:
    """A shard to embed.

    Args:
        file: its name.
        rows: images in it.
        untrained: embed it with the untrained network, too.
    """

    file: str
    rows: int
    untrained: bool


class BatchEmbedder:
    """One embedding worker of Ray Data.

    Args:
        model: the files of the trained model, by name: no other node need see its folder.
        untrained_seed: of the model as it was before training; None: it is not needed.
    """

    def __init__(self, model: dict[str, bytes], untrained_seed: int | None):
        import torch

        keep_freed_memory()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with TemporaryDirectory() as folder:
            for name, data in model.items():
                Path(folder, name).write_bytes(data)
            embedders = {"trained": load_embedder(Path(folder))}
            config = load_config(Path(folder))
        if untrained_seed is not None:
            embedders["untrained"] = build_embedder(config, untrained_seed).eval()
        self.embedders = {name: embedder.to(self.device) for name, embedder in embedders.items()}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """A row of READ to a row of MADE, whose float32 [rows, D] are bytes."""
        import torch

        from rhs.data.decode import decode
        from rhs.data.transforms import view

        (row,) = batch.to_pylist()
        size = self.embedders["trained"].image_size
        pixels = np.stack([view(decode(data), size) for data in row["images"]])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)
        made = {
            name: model.embed(images).cpu().numpy().tobytes()
            for name, model in self.embedders.items()
            if name == "trained" or row["untrained"]
        }
        return pa.Table.from_pylist([{"task": row["task"], **made}], schema=MADE)


def read_batches(tasks: pa.Table, place: str, size: int) -> Iterator[pa.Table]:
    """The images of some shards, rows of TASKS, in batches: tables of READ with one row each.

    Args:
        place: folder or URL that holds the shards.
        size: images in a batch; the last one of a shard may have fewer.
    """
    for task in tasks.to_pylist():
        images = _images(place, task.pop("file"))
        while batch := list(islice(images, size)):
            yield pa.Table.from_pylist([{**task, "images": batch}], schema=READ)


def _images(place: str, file: str) -> Iterator[bytes]:
    """The encoded images of a shard, in order, with little of it in memory."""
    filesystem, folder = ObjectStore(place).for_arrow() if is_url(place) else (None, place)
    try:
        with pq.ParquetFile(f"{folder}/{file}", filesystem=filesystem) as shard:
            for batch in shard.iter_batches(batch_size=256, columns=["image"]):
                yield from batch["image"].to_pylist()
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{place}/{file} cannot be read ({' '.join(str(error).split())}): run the preprocess "
            "stage again."
        ) from error


def embedding_pool(
    cluster: ClusterConfig, there: Mapping[str, float]
) -> tuple[int, int, dict[str, float]]:
    """Embedding workers to start with, and at most, and what each takes.

    They are `cluster.num_workers`, as far as they fit, and at least one.

    Args:
        there: the cluster's resources. One CPU of them is left for the readers, without which the
            workers would wait for ever.
    """
    least, most = workers_of(cluster.num_workers)
    asked = cluster.resources_per_worker
    # Half, so that the readers that feed them find a processor too.
    each = {"CPU": asked.get("CPU", 1) / 2, "GPU": asked.get("GPU", 0)}
    free = {"CPU": there.get("CPU", 0) - 1, "GPU": there.get("GPU", 0)}
    fitting = [int(free[kind] / need) for kind, need in each.items() if need]
    most = max(1, min([most, *fitting]))
    if free["CPU"] >= 0:  # else it is a cluster that will grow
        each["CPU"] = min(each["CPU"], free["CPU"])
    return min(least, most), most, each


def embeddings(
    params: Params, shards: Path, tasks: Sequence[Task], model: Path
) -> Iterator[tuple[int, dict[str, NDArray[np.float32]]]]:
    """Embed shards on Ray's workers, to which this process is connected; in their order.

    Yields:
        (task, {"trained": float32 [rows, D], "untrained": the same where the task asks for it}),
        some rows of a task at a time; normalized.
    """
    import ray.data

    place = str(shards.resolve())
    if is_url(storage := params.cluster.storage):  # nodes read them there
        place = f"{storage.rstrip('/')}/data/shards/{params.dataset.name}"
    rows = [{"task": i, "file": t.file, "untrained": t.untrained} for i, t in enumerate(tasks)]
    weights = {path.name: path.read_bytes() for path in model.iterdir()}
    seed = params.seed if any(task.untrained for task in tasks) else None
    least, most, each = embedding_pool(params.cluster, ray.cluster_resources())
    dim = load_config(model)["dim"]
    with ordered_and_quiet():
        ray.data.DataContext.get_current().target_max_block_size = BLOCK_BYTES
        read = ray.data.from_arrow([pa.Table.from_pylist([row], TASKS) for row in rows])
        images = read.map_batches(
            partial(read_batches, place=place, size=params.evaluate.batch_size),
            batch_size=None,
            batch_format="pyarrow",
        )
        with _quiet_about_restarts():
            made = images.map_batches(
                BatchEmbedder,
                fn_constructor_args=(weights, seed),
                batch_size=1,  # row, that is, batch of images
                batch_format="pyarrow",
                # Those that a small data set leaves idle may stop.
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=least),
                num_cpus=each["CPU"],
                num_gpus=each["GPU"],
                max_restarts=0,  # with any, Ray prints an error about its own way to start them
            )
        tables = made.iter_batches(batch_size=None, batch_format="pyarrow")
        for table in _without_ray_around_it(cast(Iterator[pa.Table], tables)):
            for row in table.to_pylist():
                yield row.pop("task"), _arrays(row, dim)


def _without_ray_around_it(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """A user's mistake that a worker finds is told in its sentence, without the worker's stack."""
    from ray.exceptions import RayTaskError

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # `ordered_and_quiet` resets it
    try:
        yield from tables
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause).partition("\n")[0]) from None  # Ray adds lines
        raise


def _arrays(row: dict[str, bytes | None], dim: int) -> dict[str, NDArray[np.float32]]:
    return {
        net: np.frombuffer(data, np.float32).reshape(-1, dim)
        for net, data in row.items()
        if data is not None
    }


@contextmanager
def _quiet_about_restarts() -> Iterator[None]:
    from ray.util.annotations import RayDeprecationWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # of max_restarts
        yield
