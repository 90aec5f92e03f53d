"""A gallery in parts, each held by a worker of a Ray cluster, for one that no node can hold.

A query is compared with every part, and the answers are merged: all similarities of relevant items,
the highest floor, the sum of the counts. The ranks are those of one process that holds the whole
gallery, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rhs.errors import UserError
from rhs.retrieval.gallery import Gallery, Queries
from rhs.retrieval.ranks import in_chunks, ranks
from rhs.retrieval.scores import Scores, checked, shown, summed
from rhs.retrieval.stored import Embedded, read_embedded
from rhs.retrieval.vectors import searchable, unit_rows


class Holder:
    """One worker, which holds the rows of some files; of these, those of the gallery are compared.

    Args:
        start: how many rows the files before these have.
        memory_mib: see `Gallery`.
    """

    def __init__(self, start: int, memory_mib: int):
        self._start, self._memory_mib = start, memory_mib
        self._stored: list[Embedded] = []

    def take(self, data: bytes) -> None:
        """The next file (rhs.retrieval.stored). It is sent: nodes need not see its folder."""
        with TemporaryDirectory() as folder:
            file = Path(folder, "rows.parquet")
            file.write_bytes(data)
            stored = read_embedded(file)
        self._stored.append(replace(stored, embeddings=unit_rows(stored.embeddings, least=1)))

    def hold(self) -> None:
        """All files are here."""
        self._unit_ND = np.concatenate([stored.embeddings for stored in self._stored])
        labels_N = np.concatenate([stored.labels for stored in self._stored])
        asking = [stored.queries for stored in self._stored if stored.queries is not None]
        there = np.flatnonzero(~np.concatenate(asking)) if asking else np.arange(len(labels_N))
        there = there[np.argsort(labels_N[there], kind="stable")]
        unit_GD = self._unit_ND[there]
        self._gallery = Gallery(
            unit_GD, labels_N[there], self._start + there, memory_mib=self._memory_mib
        )
        self._stored.clear()

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """The unit rows of items that it holds."""
        return self._unit_ND[ids - self._start]

    def ask(self, what: str, *arguments: Any) -> Any:
        """What `Gallery` answers."""
        return getattr(self._gallery, what)(*arguments)


class ShardedGallery:
    """The gallery that several workers hold together; asked like `rhs.retrieval.gallery.Gallery`.

    Args:
        holders: handles of `Holder` actors.
        starts: the first item of each.
    """

    def __init__(self, holders: Sequence[Any], starts: Sequence[int]):
        self._holders, self._starts = holders, np.asarray(starts)

    def relevant(self, queries: Queries) -> tuple[np.ndarray, np.ndarray]:
        answers = self._ask("relevant", queries)
        own_Q = np.max([own for _, own in answers], axis=0)
        return np.concatenate([sims for sims, _ in answers], axis=1), own_Q

    def floor(self, queries: Queries, places_Q: np.ndarray) -> np.ndarray:
        return np.max(self._ask("floor", queries, places_Q), axis=0)

    def above(self, queries: Queries, edges_QE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answers = self._ask("above", queries, edges_QE)
        many_Q = np.any([many for _, many in answers], axis=0)
        return np.sum([counts for counts, _ in answers], axis=0), many_Q

    def above_in_full(self, queries: Queries, edges_QE: np.ndarray) -> np.ndarray:
        return np.sum(self._ask("above_in_full", queries, edges_QE), axis=0)

    def queries(self, ids: np.ndarray, labels: np.ndarray) -> Queries:
        """Items as queries, their rows fetched from where they are held."""
        import ray

        holder_Q = np.searchsorted(self._starts, ids, side="right") - 1
        asked = {h: np.flatnonzero(holder_Q == h) for h in np.unique(holder_Q)}
        parts = ray.get([self._holders[h].rows.remote(ids[at]) for h, at in asked.items()])
        unit_QD = np.empty((len(ids), parts[0].shape[1]), np.float32)
        for at, part in zip(asked.values(), parts, strict=True):
            unit_QD[at] = part
        return Queries(unit_QD, labels, ids)

    def _ask(self, what: str, *arguments: Any) -> list[Any]:
        import ray

        sent = [ray.put(argument) for argument in arguments]
        return ray.get([holder.ask.remote(what, *sent) for holder in self._holders])


def sharded_score(
    files: Sequence[Path],
    ks: Sequence[int],
    cluster: Mapping[str, Any],
    *,
    draws: int = 1000,
    seed: int = 0,
    memory_mib: int = 256,
    progress: bool = False,
) -> Scores:
    """The scores of `rhs.retrieval.scores.score` of stored embeddings, without holding them here.

    Args:
        files: of a split, in order. They are sent to the workers, one after the other.
        cluster: the group of that name: `gallery_shards`, and what each of these workers takes.

    Raises:
        UserError: as `score`, or the cluster cannot hold as many workers.
    """
    columns = [pq.read_table(file, columns=["label", "query"]) for file in files]
    labels_N = np.concatenate([table["label"].to_numpy() for table in columns])
    queries_N = None
    if not columns[0]["query"].null_count:
        queries_N = np.concatenate([table["query"].to_numpy() for table in columns])
    answers_N = checked(labels_N, len(labels_N), ks, queries_N)
    order = np.argsort(labels_N, kind="stable")
    asking = order[answers_N[order]]
    _, class_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    asked = len(labels_N) if queries_N is None else int(queries_N.sum())
    with _held(files, [len(table) for table in columns], cluster, memory_mib) as gallery:
        chunks = (
            gallery.queries(ids, labels_N[ids]) for ids in in_chunks(asking, count_C[class_N])
        )
        return summed(
            shown(ranks(chunks, gallery), len(asking), progress),
            ks,
            searchable(len(labels_N), queries_N),
            asked - len(asking),
            draws=draws,
            seed=seed,
        )


@contextmanager
def _held(
    files: Sequence[Path], rows: Sequence[int], cluster: Mapping[str, Any], memory_mib: int
) -> Iterator[ShardedGallery]:
    """The gallery, held by `cluster.gallery_shards` workers, at most one for each file."""
    import ray

    count = min(cluster["gallery_shards"], len(files))
    each = dict(cluster.get("resources_per_worker") or {"CPU": 1})
    for kind, need in each.items():
        if count * need > (free := ray.cluster_resources().get(kind, 0)):
            raise UserError(
                f"cluster.gallery_shards = {count} with {need:g} {kind} each need "
                f"{count * need:g} {kind}; there are {free:g}."
            )
    starts = np.concatenate([[0], np.cumsum(rows)])
    # Consecutive files, so that each holds about as many rows.
    shares = np.searchsorted(starts[:-1], starts[-1] * np.arange(1, count) / count)
    actor: Any = ray.remote(Holder).options(  # type: ignore[call-overload]
        num_cpus=each.get("CPU", 1), num_gpus=each.get("GPU", 0)
    )
    holders: list[Any] = []
    firsts: list[int] = []
    try:
        for some in np.split(np.arange(len(files)), shares):
            if not len(some):
                continue
            firsts.append(int(starts[some[0]]))
            holders.append(actor.remote(firsts[-1], memory_mib))
            for file in some:
                ray.get(holders[-1].take.remote(files[file].read_bytes()))
        ray.get([holder.hold.remote() for holder in holders])
        yield ShardedGallery(holders, firsts)
    finally:
        for holder in holders:
            ray.kill(holder)
