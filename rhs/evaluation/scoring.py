"""Stored embeddings -> the numbers of metrics.json, and the lines that tell them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rhs.config.settings import Params
from rhs.data.embedding_files import read_about, read_files
from rhs.data.shards import ShardedImages
from rhs.distributed.ray_cluster import connect
from rhs.distributed.retries import retry_lost_workers
from rhs.distributed.worker_deaths import GALLERY
from rhs.errors import UserError
from rhs.evaluation.intervals import interval, written
from rhs.metrics.cosine import answerable
from rhs.metrics.nmi import ITERATIONS, Clustering, nmi
from rhs.metrics.retrieval import Scores, score
from rhs.metrics.sharded_gallery import sharded_score

COUNTS = ("queries", "left_out")  # facts of the data, no scores
TOLD = ("r_precision", "map@r", "nmi")  # beside Recall@K; precision@1 is Recall@1
RANGED = ("recall@1", "map@r")  # told with their intervals
LONG = 5e13  # operations of k-means, above which they are told before: minutes


def check_answers(shards: Path, splits: Sequence[str]) -> None:
    """Raises UserError unless each split has a query that can be answered."""
    for split in splits:
        images = ShardedImages(shards, split)
        if not answerable(images.labels, images.queries).any():
            raise UserError(
                f"None of the {len(images)} images of split {split!r} has another of its class to "
                "be found; it cannot be scored."
            )


def score_files(params: Params, files: Sequence[Path], nmi_seeds: int | None = None) -> dict:
    """The scores of a split whose embeddings these files hold.

    Args:
        nmi_seeds: runs of k-means; None: `evaluate.nmi_seeds`.

    Returns:
        {"recall@1": share in [0, 1], ..., "precision@1", "r_precision", "map@r", "nmi", "queries":
        counted, "left_out": queries that have no item of their class to be found, "intervals":
        {"recall@1": {"low": …, "high": …}, ...}}, the intervals being of 95 %.

    Raises:
        UserError: an image without a class, or see `rhs.metrics.retrieval.score`.
    """
    if unknown := int((read_about(files).labels < 0).sum()):
        raise UserError(
            f"{files[0].parent}: {unknown:,} images have no class (label -1); every image that is "
            "scored needs one."
        )
    scores = _score(params, files)
    values, intervals = dict(scores.values), dict(scores.intervals)
    seeds = params.evaluate.nmi_seeds if nmi_seeds is None else nmi_seeds
    if seeds and not params.cluster.gallery_shards:
        found = _cluster(params, files, seeds)
        values["nmi"] = found.value
        if found.interval is not None:
            intervals["nmi"] = found.interval
    counts = {"queries": scores.queries, "left_out": scores.left_out}
    listed = {"intervals": {name: written(ends) for name, ends in intervals.items()}}
    return values | counts | (listed if intervals else {})


def _score(params: Params, files: Sequence[Path]) -> Scores:
    ks = params.dataset.recall_at
    settings: dict[str, Any] = {
        "draws": params.evaluate.bootstrap,
        "seed": params.seed,
        "memory_mib": params.evaluate.memory_mib,
        "progress": True,
    }
    if params.cluster.gallery_shards:
        connect(params.cluster)
        return retry_lost_workers(
            lambda: sharded_score(files, ks, params.cluster, **settings),
            params.cluster.max_failures,
            "holding the gallery",
            GALLERY,
        )
    embedded = read_files(files)
    return score(embedded.embeddings, embedded.labels, ks, embedded.queries, **settings)


def _cluster(params: Params, files: Sequence[Path], seeds: int) -> Clustering:
    embedded = read_files(files)
    (count, dim), classes = embedded.embeddings.shape, len(np.unique(embedded.labels))
    if (work := 2.0 * count * classes * dim * ITERATIONS * seeds) > LONG:
        print(
            f"NMI: {seeds} runs of k-means on {count:,} images of {classes:,} classes take about "
            f"{work:.0e} operations; evaluate.nmi_seeds=1 takes one run, 0 none",
            flush=True,
        )
    return nmi(
        embedded.embeddings,
        embedded.labels,
        seeds=seeds,
        seed=params.seed,
        draws=params.evaluate.bootstrap,
        progress=True,
    )


def summary_line(split: str, values: dict) -> str:
    """What `measure` found, on one line; everything else is in metrics.json."""
    told = []
    for name, value in values.items():
        if name.startswith("recall@") or name in TOLD:
            told.append(f"{name} {100 * value:.1f} %")
            if name in RANGED and (ends := interval(values, name)):
                low, high = ends
                told[-1] += f" ({100 * low:.1f} to {100 * high:.1f})"
    if count := values["left_out"]:
        whose = "query, no other image of its" if count == 1 else "queries, no other image of their"
        told.append(f"left out: {count:,} {whose} class")
    return f"{split:>9}  " + "  ".join(told)


def flat_metrics(values: dict) -> dict[str, float]:
    """The scores of a split for MLflow: each interval as two numbers, `<score>_low` and `_high`."""
    scores = {k: v for k, v in values.items() if k not in (*COUNTS, "intervals")}
    for name in values.get("intervals", {}):
        if ends := interval(values, name):
            scores |= {f"{name}_{end}": value for end, value in written(ends).items()}
    return scores
