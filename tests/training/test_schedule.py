"""The learning rate as a function of the step, and which parameters it reaches how."""

import pytest
import torch
from tiny import small_model_config

from rhs.models.embedder import build_embedder
from rhs.training.schedule import build_optimizer, learning_rate, set_learning_rate


def rates(total: int, warmup: int, base: float = 0.1) -> list[float]:
    return [learning_rate(step, total, base, warmup) for step in range(total)]


def test_warm_up_then_cosine():
    seen = rates(total=100, warmup=10)
    assert seen[:10] == pytest.approx([0.01 * (i + 1) for i in range(10)])
    assert max(seen) == seen[9] == seen[10] == pytest.approx(0.1)
    assert seen[10:] == sorted(seen[10:], reverse=True)
    assert seen[55] == pytest.approx(0.05)
    assert 0 < seen[-1] < 1e-4
    assert learning_rate(100, 100, 0.1, 10) == pytest.approx(0, abs=1e-12)


def test_without_warm_up():
    assert rates(total=10, warmup=0)[0] == 0.1


@pytest.mark.parametrize(("total", "warmup"), [(5, 10), (5, 5), (1, 0), (1, 1)])
def test_runs_no_longer_than_the_warm_up(total, warmup):
    assert all(0 < rate <= 0.1 for rate in rates(total, warmup))


@pytest.fixture
def model():
    return build_embedder(small_model_config())


def group_of(optimizer, parameter) -> dict:
    (group,) = [g for g in optimizer.param_groups if any(p is parameter for p in g["params"])]
    return group


def test_every_parameter_once_and_no_decay_of_biases_and_norms(model):
    proxies = torch.nn.ParameterDict({"proxies": torch.nn.Parameter(torch.zeros(3, 4))})
    optimizer = build_optimizer(model, proxies, lr=0.1, weight_decay=0.01, head_lr=10.0)
    everything = [p for group in optimizer.param_groups for p in group["params"]]
    expected = [*model.parameters(), *proxies.parameters()]
    assert len(everything) == len(expected)
    assert {id(p) for p in everything} == {id(p) for p in expected}
    for name, parameter in model.named_parameters():
        group = group_of(optimizer, parameter)
        assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0), name
        assert group["lr_factor"] == (10.0 if name.startswith("head.") else 1.0), name
    assert group_of(optimizer, proxies["proxies"])["lr_factor"] == 10.0


def test_the_rate_keeps_the_heads_factor(model):
    optimizer = build_optimizer(model, torch.nn.Module(), 0.1, 0.01, head_lr=10.0)
    for value in (0.3, 0.2):
        set_learning_rate(optimizer, value)
        assert group_of(optimizer, model.head.weight)["lr"] == pytest.approx(10 * value)
        assert group_of(optimizer, next(model.trunk.parameters()))["lr"] == value
