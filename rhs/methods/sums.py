"""Means over rows that lie in several tiles, and on several workers: their totals and counts."""

import torch

Sums = tuple[torch.Tensor, torch.Tensor]  # of some rows: a total, and the count it is divided by


def masked_sums(values: torch.Tensor, mask: torch.Tensor) -> Sums:
    """Numerator and denominator of `masked_mean`."""
    # where, not a product: a masked infinity times 0 would be NaN.
    return torch.where(mask, values, 0.0).sum(), mask.sum()


def mean(sums: Sums) -> torch.Tensor:
    """The mean that they are of; 0 where nothing counts."""
    return sums[0] / sums[1].clamp_min(1)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the values where the mask is true; 0, with gradient 0, where it never is."""
    return mean(masked_sums(values, mask))


def sums_of_mean(value: torch.Tensor, count: int) -> Sums:
    """A mean over so many entries as a total and a count."""
    return value * count, torch.full_like(value, count)


def total_of_means(sums: list[Sums]) -> torch.Tensor:
    """The means, added up."""
    total = mean(sums[0])
    for each in sums[1:]:
        total = total + mean(each)
    return total
