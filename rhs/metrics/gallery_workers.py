"""The workers of a Ray cluster that each hold a part of a gallery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rhs.config.settings import ClusterConfig
from rhs.data.embedding_files import EmbeddingInfo, read_embedded
from rhs.errors import UserError
from rhs.metrics.cosine import unit_rows
from rhs.metrics.gallery import Gallery

TELL_AFTER = 15.0  # seconds without a place for all workers
WAIT = 300.0  # seconds for a place


class GalleryWorker:
    """One worker, which holds the rows of some files; of these, those of the gallery are compared.

    Args:
        start: how many rows the files before these have.
        labels_N: of its rows.
        queries_N: bool, which of them are no part of the gallery; None: none.
        dim: D.
        memory_mib: see `Gallery`.
    """

    def __init__(
        self,
        start: int,
        labels_N: np.ndarray,
        queries_N: np.ndarray | None,
        dim: int,
        memory_mib: int,
    ):
        count = len(labels_N)
        there_G = np.arange(count) if queries_N is None else np.flatnonzero(~queries_N)
        there_G = there_G[np.argsort(labels_N[there_G], kind="stable")]
        others = np.empty(0, np.int64) if queries_N is None else np.flatnonzero(queries_N)
        # The gallery comes first, by class: it is a part of the one array that there is.
        self._place_N = np.empty(count, np.int64)
        self._place_N[np.concatenate([there_G, others])] = np.arange(count)
        self._unit_ND = np.empty((count, dim), np.float32)
        self._labels_G, self._ids_G = labels_N[there_G], start + there_G
        self._start, self._memory_mib = start, memory_mib

    def take(self, first: int, data: bytes) -> None:
        """A file (rhs.data.embedding_files) whose first row is the item `first`.

        It is sent: nodes need not see its folder.
        """
        with TemporaryDirectory() as folder:
            file = Path(folder, "rows.parquet")
            file.write_bytes(data)
            embeddings_MD = read_embedded(file).embeddings
        if len(embeddings_MD):
            at = first - self._start
            places_M = self._place_N[at : at + len(embeddings_MD)]
            self._unit_ND[places_M] = unit_rows(embeddings_MD, least=1)

    def hold(self) -> None:
        """All files are here."""
        unit_GD = self._unit_ND[: len(self._labels_G)]
        self._gallery = Gallery(unit_GD, self._labels_G, self._ids_G, memory_mib=self._memory_mib)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """The unit rows of items that it holds."""
        return self._unit_ND[self._place_N[ids - self._start]]

    def ask(self, what: str, *arguments: Any) -> Any:
        """What `Gallery` answers."""
        return getattr(self._gallery, what)(*arguments)


@contextmanager
def gallery_workers(
    files: Sequence[Path], about: EmbeddingInfo, cluster: ClusterConfig, memory_mib: int
) -> Iterator[tuple[list[Any], list[int]]]:
    """Have some files held by `cluster.gallery_shards` workers, at most one for each file.

    Yields:
        handles of `Holder` actors, and the first item of each.
    """
    import ray

    starts = np.concatenate([[0], np.cumsum(about.rows)])
    count = min(cluster.gallery_shards or 1, len(files))
    # Consecutive files, so that each holds about as many rows.
    shares = np.searchsorted(starts[:-1], starts[-1] * np.arange(1, count) / count)
    parts = [part for part in np.split(np.arange(len(files)), shares) if len(part)]
    firsts = [int(starts[part[0]]) for part in parts]
    actor = _actor(cluster, len(parts))
    holders: list[Any] = []
    try:
        for part, first in zip(parts, firsts, strict=True):
            rows = slice(first, int(starts[part[-1] + 1]))
            asked = None if about.queries is None else about.queries[rows]
            holders.append(actor.remote(first, about.labels[rows], asked, about.dim, memory_mib))
        _placed(holders, cluster)
        for part, holder in zip(parts, holders, strict=True):
            for file in part:
                _answer(holder.take.remote(int(starts[file]), files[file].read_bytes()))
        _answer([holder.hold.remote() for holder in holders])
        yield holders, firsts
    finally:
        with suppress(ray.exceptions.RayError):  # Ray itself is gone, and they with it
            for holder in holders:
                ray.kill(holder)


def _actor(cluster: ClusterConfig, count: int) -> Any:
    """What makes a holder, with all that `cluster.resources_per_worker` names.

    Raises:
        UserError: the whole cluster has less than `count` of them take.
    """
    import ray

    each = {"CPU": 1, **cluster.resources_per_worker}
    for kind, need in each.items():
        if count * need > (free := ray.cluster_resources().get(kind, 0)):
            raise UserError(
                f"cluster.gallery_shards is {cluster.gallery_shards}: {count} workers (at most "
                f"one a shard) with {need:g} {kind} each need {count * need:g} {kind}; there are "
                f"{free:g}."
            )
    return ray.remote(GalleryWorker).options(  # type: ignore[call-overload]
        num_cpus=each.pop("CPU"),
        num_gpus=each.pop("GPU", 0),
        memory=each.pop("memory", None),
        resources=each,
    )


def _placed(holders: Sequence[Any], cluster: ClusterConfig) -> None:
    """Wait until every holder has its place in the cluster.

    Raises:
        UserError: one has none for long, as others work there or no node is large enough.
    """
    import ray

    waiting = [holder.__ray_ready__.remote() for holder in holders]
    _, missing = ray.wait(waiting, num_returns=len(waiting), timeout=TELL_AFTER)
    about = f"{len(holders)} workers that hold the gallery (cluster.gallery_shards)"
    if missing:
        print(f"waiting for the cluster: {len(missing)} of the {about} have no place", flush=True)
        _, missing = ray.wait(waiting, num_returns=len(waiting), timeout=WAIT)
    if missing:
        raise UserError(
            f"{len(missing)} of the {about} found no place in {TELL_AFTER + WAIT:.0f} s: each "
            f"needs {cluster.resources_per_worker} on one node, free of "
            "other work."
        )


def _answer(asked: Any) -> Any:
    """`ray.get`; a user's mistake that a worker finds is told in its sentence alone."""
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(asked)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause).partition("\n")[0]) from None  # Ray adds lines
        raise
