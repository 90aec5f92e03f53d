"""What no block, product or setting of the process may change in a score, and its memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from retrieved import clustered, on_a_grid, reference, values, with_duplicates

from rhs.metrics import gallery, rank_counting, ranks
from rhs.metrics.bounded_products import Float32, Int8


def heavy(rng) -> tuple:
    """Two coordinates hold nearly everything: eight bits say little of the others."""
    embeddings, labels = clustered(rng, 500, 80, dim=48)
    embeddings[:, :2] *= 60
    return embeddings, labels


def many(rng) -> tuple:
    return clustered(rng, 500, 80, dim=48)


def few_classes(rng) -> tuple:
    return clustered(rng, 240, 2, dim=24)


def collapsed(rng) -> tuple:
    embeddings, labels = clustered(rng, 400, 70, dim=24)
    return (embeddings[0] + 1e-4 * embeddings).astype(np.float32), labels


@pytest.mark.parametrize("data", [many, heavy, few_classes, collapsed, with_duplicates, on_a_grid])
def test_no_product_and_no_block_changes_a_rank(data, monkeypatch):
    """Not by the last bit: with eight bits, in float32, in blocks of 32 queries and 16 items,
    with nothing or everything left to whole rows."""
    embeddings, labels = data(np.random.default_rng(0))
    expected = values(embeddings, labels, ks=(1, 10, 100))
    assert expected == pytest.approx(reference(embeddings, labels, (1, 10, 100)), abs=1e-12)
    for small in (False, True):
        if small:
            for module, name, size in (
                (gallery, "QUERIES", 32),
                (ranks, "QUERIES", 32),
                (ranks, "_RELEVANT", 500),
                (rank_counting, "_PAIRS", 1000),
                (rank_counting, "_LANES", 64),
                (rank_counting, "_CELLS", 40),
            ):
                monkeypatch.setattr(module, name, size)
        for product in (Float32, Int8):
            monkeypatch.setattr(gallery, "fast_bytes", lambda *_, made=product: made is Int8)
            for touched in (-1.0, 0.2, 2.0):
                monkeypatch.setattr(gallery, "_TOUCHED", touched)
                memory = {"memory_mib": 0} if small else {}
                assert values(embeddings, labels, ks=(1, 10, 100), **memory) == expected


def test_products_that_the_process_has_made_coarse():
    embeddings, labels = collapsed(np.random.default_rng(0))
    expected = values(embeddings, labels)
    torch.set_float32_matmul_precision("medium")
    try:
        assert values(embeddings, labels) == expected
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def peak_mib(reset: bool = False) -> float:
    """The most memory that this process has held, ever or since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 1024


def test_memory_does_not_grow_with_the_class():
    """One class of 1,500, each with 1,499 edges: a few times the budget, not N x N x 2 of them."""
    embeddings, _ = clustered(np.random.default_rng(0), 1500, 3, dim=8)
    values(embeddings[:40], np.zeros(40, dtype=int))  # what the libraries take once
    before = peak_mib(reset=True)
    values(embeddings, np.zeros(1500, dtype=int), memory_mib=16)
    assert peak_mib() - before < 200
