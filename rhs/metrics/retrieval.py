"""Recall@K, precision@1, R-precision and MAP@R, with fair ties and bootstrap intervals.

Recall@K is the share of queries with at least one item of their class among their K nearest others
(Jegou et al., 2011; Song et al., CVPR 2016). With R items of the query's class to be found,
R-precision is their share among the first R, and MAP@R the mean over those R places of the
precision there where the item is right, and of 0 where it is wrong (Musgrave et al., ECCV 2020).

Where similarities tie (rhs.metrics.ranks), any order of the tied items is as good as another: a
query counts with its expectation over random orders. Collapsed (constant) embeddings then score
exactly chance, whatever the order of the items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from rhs.errors import UserError
from rhs.metrics.cosine import answerable, searchable, unit_rows
from rhs.metrics.gallery import Gallery, Queries
from rhs.metrics.inputs import classes, depths, mask, processor, whole
from rhs.metrics.ranks import Ranks, in_chunks, ranks

_DRAWN = 1 << 20  # classes drawn at a time


@dataclass(frozen=True)
class Scores:
    """Means over the queries that count, each in [0, 1].

    Attributes:
        values: "recall@1", ..., "precision@1", "r_precision", "map@r".
        intervals: of the same, 95 %; empty where no draws were asked for, or all queries are of one
            class.
        queries: how many count.
        left_out: queries that have no item of their class to be found, and cannot be answered; they
            stay in the gallery of the others.
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    queries: int
    left_out: int


def score(
    embeddings_ND: np.ndarray,
    labels_N: np.ndarray,
    ks: Sequence[int] = (1, 2, 4, 8),
    queries_N: np.ndarray | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    memory_mib: int = 256,
    device: str | None = None,
    progress: bool = False,
) -> Scores:
    """Score every item against all the others, or queries against a gallery, by cosine.

    The same numbers on every processor, with any memory: what a fast product leaves open is settled
    in float64. Similarities within 1e-6 tie: a query counts with its mean over the orders of the
    tied. Arrays may also be tensors (of any device and type), lists or columns of tables.

    Args:
        embeddings_ND: [N, D] finite numbers of any scale. A row of zeros has similarity 0 to all.
        labels_N: [N] class of each row, whole numbers or names.
        ks: values of K. K beyond the items that a query is compared with counts them all.
        queries_N: bool, True for a query and False for an item of the gallery. None: every item
            queries all the others.
        draws: resamplings of the bootstrap; 0: no intervals.
        seed: of the bootstrap.
        memory_mib: that comparing takes, beside a copy of the embeddings and their codes.
        device: "cpu" or "cuda"; None: the GPU where there is one.
        progress: show a bar (only on a terminal).

    Raises:
        UserError: shapes that do not fit, NaN or infinity (names the row), a label that is neither
            a whole number nor a name, a K below 1, a setting out of range, or no query that can be
            answered.
    """
    ks, draws, seed = depths(ks), whole("draws", draws, least=0), whole("seed", seed, least=0)
    memory_mib, where = whole("memory_mib", memory_mib, least=0), processor(device)
    unit_ND = unit_rows(embeddings_ND)
    labels_N, queries_N = classes(labels_N, len(unit_ND)), mask(queries_N, len(unit_ND))
    answers_N = check_inputs(labels_N, queries_N)
    # By class: then the items of a class lie together, for queries and gallery alike.
    order = np.argsort(labels_N, kind="stable")
    unit_ND, labels_N, answers_N = unit_ND[order], labels_N[order], answers_N[order]
    asks_N = np.ones(len(order), bool) if queries_N is None else queries_N[order]
    there = np.arange(len(order)) if queries_N is None else np.flatnonzero(~asks_N)
    everyone = len(there) == len(order)
    gallery = Gallery(
        unit_ND if everyone else unit_ND[there],
        labels_N[there],
        order[there],
        memory_mib=memory_mib,
        device=str(where),
    )
    plan = in_chunks(np.flatnonzero(answers_N), np.bincount(labels_N)[labels_N])
    chunks = (Queries(unit_ND[rows], labels_N[rows], order[rows]) for rows in plan)
    told = with_progress(ranks(chunks, gallery), int(answers_N.sum()), progress)
    compared, left_out = searchable(len(order), queries_N), int(asks_N.sum() - answers_N.sum())
    return aggregate(told, ks, compared, left_out, draws=draws, seed=seed)


def aggregate(
    told: Iterable[Ranks], ks: Sequence[int], compared: int, left_out: int, *, draws: int, seed: int
) -> Scores:
    """The scores that ranks amount to.

    Args:
        compared: items that a query is compared with.
    """
    ids, labels, values = [], [], []
    for some in told:
        ids.append(some.ids)
        labels.append(some.labels)
        values.append(per_query(some, [min(k, compared) for k in ks]))
    # Some queries come later than others; sums are to be the same in the last bit all the same.
    order = np.argsort(np.concatenate(ids))
    names = [f"recall@{k}" for k in ks] + ["precision@1", "r_precision", "map@r"]
    values_QM, labels_Q = np.concatenate(values)[order], np.concatenate(labels)[order]
    several = len(np.unique(labels_Q)) > 1
    intervals = bootstrap(values_QM, labels_Q, draws=draws, seed=seed) if draws and several else []
    return Scores(
        dict(zip(names, values_QM.mean(axis=0).tolist(), strict=True)),
        dict(zip(names, intervals, strict=False)),
        len(labels_Q),
        left_out,
    )


def per_query(some: Ranks, ks: Sequence[int]) -> np.ndarray:
    """[Q, len(ks) + 3]: Recall@K for each K, precision@1, R-precision and MAP@R of each query."""
    tied_QG = some.right + some.wrong
    recalls = [
        1 - _miss(some.right[:, 0], some.wrong[:, 0], k - some.before[:, 0]) for k in [*ks, 1]
    ]
    relevant_Q1, before_QG = some.relevant[:, None], some.before
    inside_QG = np.where(some.right > 0, np.clip(relevant_Q1 - before_QG, 0, tied_QG), 0)
    share_QG = some.right / np.maximum(tied_QG, 1)
    found_QG = inside_QG * share_QG
    # At place before + m of a group: with probability `share` right, and then preceded by the right
    # ones before the group and, on average, by (m - 1) `slope` of its own.
    slope_QG = (some.right - 1) / np.maximum(tied_QG - 1, 1)
    harmonic_QG = _digamma(before_QG + inside_QG + 1.0) - _digamma(before_QG + 1.0)
    first_QG = some.right_before + 1.0
    sum_QG = slope_QG * inside_QG + (first_QG - slope_QG * (before_QG + 1)) * harmonic_QG
    exact_QG = np.where(inside_QG == 1, first_QG / (before_QG + 1), sum_QG)
    precise_QG = np.where(inside_QG > 0, share_QG * exact_QG, 0)
    rates = [_row_sums(found_QG) / some.relevant, _row_sums(precise_QG) / some.relevant]
    return np.stack([*recalls, *rates], axis=1)


def _digamma(values: np.ndarray) -> np.ndarray:
    return torch.special.digamma(torch.from_numpy(values)).numpy()


def _row_sums(values_QG: np.ndarray) -> np.ndarray:
    """One column after the other: then groups that a row has not change no bit of its sum."""
    return np.ascontiguousarray(values_QG.T).sum(axis=0)


def _miss(right_Q: np.ndarray, wrong_Q: np.ndarray, slots_Q: np.ndarray) -> np.ndarray:
    """P(no right item in the first slots of a group): C(wrong, s) / C(right + wrong, s).

    As the product over i < s of (wrong - i) / (right + wrong - i): exact at 0 and 1.
    """
    miss_Q = np.where(slots_Q > 0, np.where(wrong_Q >= slots_Q, 1.0, 0.0), 1.0)
    rows = np.flatnonzero((slots_Q > 0) & (wrong_Q >= slots_Q))
    right, wrong, slots = right_Q[rows], wrong_Q[rows], slots_Q[rows]
    product = np.ones(len(rows))
    for i in range(int(slots.max(initial=0))):
        product *= np.where(i < slots, (wrong - i) / np.maximum(right + wrong - i, 1), 1.0)
    miss_Q[rows] = product
    return miss_Q


def bootstrap(
    values_QM: np.ndarray, labels_Q: np.ndarray, *, draws: int = 1000, seed: int = 0
) -> list[tuple[float, float]]:
    """95 % percentile intervals of the means of each column; of two classes at least.

    Whole classes of queries are drawn, with replacement, as many as there are, against the gallery
    as it is: the queries of a class are not independent, and what is asked is how queries of other
    classes would do.
    """
    _, class_Q, count_C = np.unique(labels_Q, return_inverse=True, return_counts=True)
    sums_CM = np.stack([np.bincount(class_Q, column) for column in values_QM.T], axis=1)
    random = np.random.default_rng(seed)
    means = []
    step = 1 + _DRAWN // len(count_C)
    for first in range(0, draws, step):
        size = (min(step, draws - first), len(count_C))
        drawn = random.integers(len(count_C), size=size)
        weights = np.stack([np.bincount(row, minlength=len(count_C)) for row in drawn])
        means.append((weights @ sums_CM) / (weights @ count_C)[:, None])
    low_M, high_M = np.quantile(np.concatenate(means), [0.025, 0.975], axis=0)
    return list(zip(low_M.tolist(), high_M.tolist(), strict=True))


def with_progress(told: Iterable[Ranks], queries: int, progress: bool) -> Iterator[Ranks]:
    """The same, with a bar where progress is asked for."""
    hidden = None if progress else True
    with tqdm(total=queries, desc="retrieval", unit="query", disable=hidden) as bar:
        for some in told:
            yield some
            bar.update(len(some.labels))


def check_inputs(labels_N: np.ndarray, queries_N: np.ndarray | None) -> np.ndarray:
    """Which items are queries that can be answered; refuses where there is none."""
    count = len(labels_N)
    if queries_N is not None and queries_N.all():
        raise UserError(f"All {count} items are queries; the gallery has none to be found.")
    if queries_N is not None and not queries_N.any():
        raise UserError(f"None of the {count} items is a query; at least one is needed.")
    answers_N = answerable(labels_N, queries_N)
    if answers_N.any():
        return answers_N
    if queries_N is None:
        raise UserError(
            f"None of the {count} items has another of its class to be found; "
            "Recall@K needs at least one class with two images."
        )
    asking = int(queries_N.sum())
    raise UserError(
        f"None of the {asking} queries has an item of its class among the {count - asking} of the "
        "gallery; Recall@K needs at least one class that both have."
    )
