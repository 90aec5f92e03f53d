"""A gallery in parts, each held by a worker of a Ray cluster, for one that no node can hold.

A query is compared with every part, and the answers are merged: all similarities of relevant items,
the highest floor, the sum of the counts. The ranks are those of one process that holds the whole
gallery, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rhs.config.settings import ClusterConfig
from rhs.data.embedding_files import read_about
from rhs.metrics.cosine import searchable
from rhs.metrics.gallery import Queries
from rhs.metrics.gallery_workers import gallery_workers
from rhs.metrics.inputs import depths, whole
from rhs.metrics.ranks import in_chunks, ranks
from rhs.metrics.retrieval import Scores, aggregate, check_inputs, with_progress


class ShardedGallery:
    """The gallery that several workers hold together; asked like `rhs.metrics.gallery.Gallery`.

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
    cluster: ClusterConfig,
    *,
    draws: int = 1000,
    seed: int = 0,
    memory_mib: int = 256,
    progress: bool = False,
) -> Scores:
    """The scores of `rhs.metrics.retrieval.score` of stored embeddings, without holding them here.

    Args:
        files: of a split, in order. They are sent to the workers, one after the other.
        cluster: the group of that name: `gallery_shards`, and what each of these workers takes.

    Raises:
        UserError: as `score` and `read_files`, or the cluster cannot hold as many workers.
        ray.exceptions.RayActorError: a worker was lost.
    """
    about = read_about(files)
    ks, draws, seed = depths(ks), whole("draws", draws, least=0), whole("seed", seed, least=0)
    memory_mib = whole("memory_mib", memory_mib, least=0)
    labels_N, queries_N = about.labels, about.queries
    answers_N = check_inputs(labels_N, queries_N)
    order = np.argsort(labels_N, kind="stable")
    asking = order[answers_N[order]]
    _, class_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    asked = len(labels_N) if queries_N is None else int(queries_N.sum())
    with gallery_workers(files, about, cluster, memory_mib) as (holders, firsts):
        gallery = ShardedGallery(holders, firsts)
        chunks = (
            gallery.queries(ids, labels_N[ids]) for ids in in_chunks(asking, count_C[class_N])
        )
        return aggregate(
            with_progress(ranks(chunks, gallery), len(asking), progress),
            ks,
            searchable(len(labels_N), queries_N),
            asked - len(asking),
            draws=draws,
            seed=seed,
        )
