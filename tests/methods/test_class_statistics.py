"""Counts, means and variances of classes against NumPy's."""

import numpy as np
import pytest
import torch

from rhs.methods.class_statistics import ClassSums

CLASSES, DIM = 7, 3


def samples(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes of 1 to 9 samples, mixed; class 4 has none."""
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 5 + [1] * 9 + [2] + [3] * 2 + [5] * 4 + [6] * 3)
    labels = labels[torch.randperm(len(labels), generator=random)]
    x = torch.randn(len(labels), DIM, generator=random, dtype=torch.float64)
    return (3 * x + labels[:, None]).to(dtype), labels


def summed(batch_size: int, x, labels, squares: bool = True) -> ClassSums:
    sums = ClassSums(CLASSES, DIM, torch.device("cpu"), squares=squares)
    for part, own in zip(x.split(batch_size), labels.split(batch_size), strict=True):
        sums.add(part, own)
    return sums


@pytest.mark.parametrize("batch_size", [1, 5, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_moments_of_each_class(batch_size, dtype):
    x, labels = samples(dtype)
    count, mean, variance = summed(batch_size, x, labels).moments()
    for label in range(CLASSES):
        own = x.double().numpy()[labels.numpy() == label]
        assert count[label] == len(own)
        np.testing.assert_allclose(mean[label], own.mean(0) if len(own) else 0, atol=1e-12)
        np.testing.assert_allclose(variance[label], own.var(0) if len(own) else 0, atol=1e-12)
    assert mean.dtype == variance.dtype == torch.float64


def test_means_alone_are_the_same():
    x, labels = samples()
    count, mean, _ = summed(4, x, labels).moments()
    for squares in (False, True):
        alone_count, alone_mean = summed(4, x, labels, squares).mean()
        assert torch.equal(alone_count, count)
        assert torch.equal(alone_mean, mean)


def test_nothing_added_is_all_zero():
    for value in ClassSums(CLASSES, DIM, torch.device("cpu"), squares=True).moments():
        assert (value == 0).all()


def test_samples_that_are_all_alike_have_no_variance_and_never_a_negative_one():
    x = torch.full((11, DIM), 123.456, dtype=torch.float64)
    *_, variance = summed(3, x, torch.zeros(11, dtype=torch.long)).moments()
    assert (variance >= 0).all()
    assert variance.max() < 1e-9
