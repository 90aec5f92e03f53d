"""Stored embeddings -> the numbers of metrics.json, and the lines that tell them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from rhs.cluster import connect
from rhs.errors import UserError, number
from rhs.retrieval.clusters import Clustering, nmi
from rhs.retrieval.scores import Scores, score
from rhs.retrieval.sharded import sharded_score
from rhs.retrieval.stored import read_files
from rhs.stage import plain

COUNTS = ("queries", "left_out")  # facts of the data, no scores
TOLD = ("r_precision", "map@r", "nmi")  # beside Recall@K; precision@1 is Recall@1
RANGED = ("recall@1", "map@r")  # told with their intervals


def check_settings(params: DictConfig) -> None:
    """Raises UserError unless the settings of scoring are in range."""
    for name, least in (("batch_size", 1), ("nmi_seeds", 0), ("bootstrap", 0), ("memory_mib", 16)):
        number(f"evaluate.{name}", params.evaluate.get(name), least=least, whole=True)
    if (shards := params.cluster.get("gallery_shards")) is not None:
        number("cluster.gallery_shards", shards, least=1, whole=True)
    ks = params.dataset.recall_at
    if not isinstance(ks, (list, ListConfig)) or not ks:
        raise UserError(f"dataset.recall_at is {ks!r}; it must be a list of whole numbers.")
    for k in ks:
        number("dataset.recall_at", k, least=1, whole=True)


def measure(params: DictConfig, files: Sequence[Path]) -> dict:
    """The scores of a split whose embeddings these files hold.

    Returns:
        {"recall@1": share in [0, 1], ..., "precision@1", "r_precision", "map@r", "nmi", "queries":
        counted, "left_out": queries that have no item of their class to be found, "intervals":
        {"recall@1": [low, high], ...}}, the intervals being of 95 %.
    """
    scores = _score(params, files)
    values, intervals = dict(scores.values), dict(scores.intervals)
    if params.evaluate.nmi_seeds and not params.cluster.get("gallery_shards"):
        found = _cluster(params, files)
        values["nmi"] = found.value
        if found.interval is not None:
            intervals["nmi"] = found.interval
    counts = {"queries": scores.queries, "left_out": scores.left_out}
    listed = {"intervals": {name: list(ends) for name, ends in intervals.items()}}
    return values | counts | (listed if intervals else {})


def _score(params: DictConfig, files: Sequence[Path]) -> Scores:
    ks = list(params.dataset.recall_at)
    settings: dict[str, Any] = {
        "draws": params.evaluate.bootstrap,
        "seed": params.seed,
        "memory_mib": params.evaluate.memory_mib,
        "progress": True,
    }
    if params.cluster.get("gallery_shards"):
        connect(params.cluster)
        return sharded_score(files, ks, plain(params.cluster), **settings)
    embedded = read_files(files)
    return score(embedded.embeddings, embedded.labels, ks, embedded.queries, **settings)


def _cluster(params: DictConfig, files: Sequence[Path]) -> Clustering:
    embedded = read_files(files)
    return nmi(
        embedded.embeddings,
        embedded.labels,
        seeds=params.evaluate.nmi_seeds,
        seed=params.seed,
        draws=params.evaluate.bootstrap,
        progress=True,
    )


def line(split: str, values: dict) -> str:
    """What `measure` found, on one line; everything else is in metrics.json."""
    told, intervals = [], values.get("intervals", {})
    for name, value in values.items():
        if name.startswith("recall@") or name in TOLD:
            told.append(f"{name} {100 * value:.1f} %")
            if name in RANGED and name in intervals:
                low, high = intervals[name]
                told[-1] += f" ({100 * low:.1f} to {100 * high:.1f})"
    if count := values["left_out"]:
        whose = "query, no other image of its" if count == 1 else "queries, no other image of their"
        told.append(f"left out: {count:,} {whose} class")
    return f"{split:>9}  " + "  ".join(told)


def flat(values: dict) -> dict[str, float]:
    """The scores of a split for MLflow: each interval as two numbers, `<score>_low` and `_high`."""
    scores = {k: v for k, v in values.items() if k not in (*COUNTS, "intervals")}
    for name, (low, high) in values.get("intervals", {}).items():
        scores |= {f"{name}_low": low, f"{name}_high": high}
    return scores
