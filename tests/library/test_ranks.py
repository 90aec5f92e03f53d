"""Every number of ranks computes what one process does: nothing but the wrapper of the model."""

from itertools import chain

import numpy as np
import pytest
from library_jobs import of_nine, seen, shares_of_sampler

import rhs

NAMES = ["rhs_npair", "iaa_triplet", "normalized_softmax", "triplet_random", "margin"]
LABELS = np.repeat(np.arange(7), [9, 5, 6, 7, 3, 8, 4]).tolist()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_ddp_with_other_seeds_and_uneven_batches(gloo_pool, name):
    whole = gloo_pool.run(seen, 1, name)[0]
    for world_size in (2, 3):
        for of_rank in gloo_pool.run(seen, world_size, name):
            for one, other in zip(whole, of_rank, strict=True):
                np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_fully_shard(gloo_pool):
    whole = gloo_pool.run(seen, 1, "rhs_npair")[0]
    for of_rank in gloo_pool.run(seen, 2, "rhs_npair", "fsdp"):
        for one, other in zip(whole, of_rank, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("state", [None, {"epoch": 3, "step": 2, "seed": 5}])
def test_the_sampler_deals_out_the_same_batches(gloo_pool, state):
    whole = gloo_pool.run(shares_of_sampler, 1, LABELS, state)[0]
    for world_size in (2, 3, 4):
        shares = gloo_pool.run(shares_of_sampler, world_size, LABELS, state)
        assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole


def test_a_batch_that_does_not_divide(gloo_pool):
    sampler = rhs.BalancedBatchSampler(LABELS, classes=3, per_class=3)
    assert len(next(iter(sampler))) == 9
    answers = gloo_pool.attempt(of_nine, 2, LABELS)
    assert all("does not divide among 2 ranks" in what for _, what in answers)


def test_a_stateful_data_loader_goes_on_where_it_was():
    loader_of = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    for workers in (0, 1):
        made = {"batch_sampler": rhs.BalancedBatchSampler(LABELS, 4, 3, seed=5)}
        loader = loader_of(range(len(LABELS)), num_workers=workers, **made)
        expected = [batch.tolist() for batch in [*loader, *loader]]
        sampler = rhs.BalancedBatchSampler(LABELS, 4, 3, seed=5)
        loader = loader_of(range(len(LABELS)), batch_sampler=sampler, num_workers=workers)
        passes = iter(loader)
        first = [next(passes).tolist() for _ in range(2)]
        state = loader.state_dict()
        sampler = rhs.BalancedBatchSampler(LABELS, 4, 3, seed=5)
        again = loader_of(range(len(LABELS)), batch_sampler=sampler, num_workers=workers)
        again.load_state_dict(state)
        rest = [batch.tolist() for batch in [*again, *again]]
        assert first + rest == expected
