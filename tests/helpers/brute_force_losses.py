"""Batches, and what a loss may choose from as plain lists, to compare the vectorized code with."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from rhs.methods.batch import AnchorSimilarities
from rhs.methods.objective import Objective

SIZES = (5, 4, 3, 2, 1, 1)  # samples of each class
DIM = 6
MEASURES = ("dot", "euclidean", "squared_euclidean")
Function = Callable[[torch.Tensor], torch.Tensor]


def embeddings(sizes=SIZES, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings [B, DIM] in float64, of any length, and their labels, in random order."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=random)]
    prototypes, noise = (
        torch.randn(count, DIM, generator=random, dtype=torch.float64)
        for count in (len(sizes), len(labels))
    )
    return 0.45 * prototypes[labels] + 0.4 * noise, labels


def unit(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([row / (row * row).sum().sqrt() for row in x])


def similarity(x: torch.Tensor, y: torch.Tensor, measure: str) -> torch.Tensor:
    """Of two points."""
    if measure == "dot":
        return (x * y).sum()
    squared = ((x - y) * (x - y)).sum()
    return -squared if measure == "squared_euclidean" else -squared.sqrt()


def relatives(labels: torch.Tensor, i: int) -> list[int]:
    """The other samples of i's class."""
    return [j for j in range(len(labels)) if labels[j] == labels[i] and j != i]


def strangers(labels: torch.Tensor, i: int) -> list[int]:
    return [j for j in range(len(labels)) if labels[j] != labels[i]]


def paired(labels: torch.Tensor) -> list[tuple[int, int]]:
    """Disjoint pairs of a class in batch order; an odd last sample goes with the one before it."""
    pairs = []
    for label in labels.unique():
        members = [i for i in range(len(labels)) if labels[i] == label]
        pairs += list(zip(members[::2], members[1::2], strict=False))
        if len(members) % 2 and len(members) > 1:
            pairs.append((members[-1], members[-2]))
    return pairs


def lists(x: torch.Tensor, labels: torch.Tensor, measure: str) -> list[tuple[list, list]]:
    """For each sample the similarities of its positives and those of its negatives."""
    return [
        (
            [similarity(x[i], x[j], measure) for j in relatives(labels, i)],
            [similarity(x[i], x[j], measure) for j in strangers(labels, i)],
        )
        for i in range(len(x))
    ]


def pair_lists(x: torch.Tensor, labels: torch.Tensor, measure: str) -> list[tuple[list, list]]:
    """The same for disjoint pairs: anchors against the positives of the pairs of other classes."""
    pairs = paired(labels)
    return [
        (
            [similarity(x[a], x[p], measure)],
            [similarity(x[a], x[q], measure) for b, q in pairs if labels[b] != labels[a]],
        )
        for a, p in pairs
    ]


def some_rows(
    rows: int = 7, positives: int = 4, negatives: int = 5, seed: int = 0
) -> AnchorSimilarities:
    """Random similarities with random masks, of more than two rows the first without positives and
    the second without negatives; what is masked out is huge, so that no sum can miss it."""
    random = torch.Generator().manual_seed(seed)
    values, masks = [], []
    for count in (positives, negatives):
        mask = torch.rand(rows, count, generator=random) < 0.7
        mask[:, 0] = True
        value = torch.randn(rows, count, generator=random, dtype=torch.float64)
        garbage = 1e6 * torch.randn(rows, count, generator=random, dtype=torch.float64)
        masks.append(mask)
        values.append((value, garbage))
    if rows > 2:
        masks[0][0] = False
        masks[1][1] = False
    made = [torch.where(mask, *pair) for mask, pair in zip(masks, values, strict=True)]
    return AnchorSimilarities(made[0], masks[0], made[1], masks[1], torch.arange(rows) % 3)


def entries(rows: AnchorSimilarities) -> list[tuple[list, list]]:
    """The positives and negatives of each row that count."""
    return [
        (
            list(rows.positive_RP[r][rows.has_positive_RP[r]]),
            list(rows.negative_RC[r][rows.has_negative_RC[r]]),
        )
        for r in range(len(rows.labels_R))
    ]


def mean(values: list) -> torch.Tensor:
    return sum(values) / len(values)


def objective(loss, labels: torch.Tensor, mining=None, normalize=False, **more) -> Function:
    """The loss of a batch as a function of its embeddings."""
    made = Objective(loss, mining, normalize=normalize, **more)
    return lambda x: made(x, labels)[0]


def value_and_slope(function: Function, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.detach().clone().requires_grad_()
    value = function(x)
    (slope,) = torch.autograd.grad(value, x)
    return value.detach(), slope


def assert_agree(function: Function, reference: Function, x: torch.Tensor, **tolerance) -> None:
    """Both have the same value and the same gradient, and there is something to compare."""
    tolerance = tolerance or {"rtol": 1e-9, "atol": 1e-11}
    value, slope = value_and_slope(function, x)
    expected, expected_slope = value_and_slope(reference, x)
    assert expected > 0
    assert expected_slope.abs().max() > 1e-3
    torch.testing.assert_close(value, expected, **tolerance)
    torch.testing.assert_close(slope, expected_slope, **tolerance)


def library(part: str) -> ModuleType:
    """A module of pytorch-metric-learning, or skip the test."""
    return pytest.importorskip(f"pytorch_metric_learning.{part}")
