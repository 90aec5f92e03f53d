"""The learning rate as a function of the step, and which parameters it reaches how."""

import pytest
import torch
from tiny_project import small_model_config

from rhs.models.embedder import build_embedder
from rhs.training.optimization import build_optimizer, learning_rate, set_learning_rate


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


class Signed(torch.nn.Module):
    """A sparse table that learns three times as fast, and a dense number."""

    def __init__(self, rows: int = 6):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(rows, 2, sparse=True)
        self.table.lr_factor = 3.0
        self.number = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, rows: list[int]) -> torch.Tensor:
        return (self.table(torch.tensor(rows)).square().sum() + 1) * self.number


def steps_of(made, optimizer, *rows: list[int]) -> None:
    for chosen in rows:
        optimizer.zero_grad()
        made(chosen).backward()
        optimizer.step()


def test_sparse_tables_learn_row_by_row(model):
    made = Signed()
    optimizer = build_optimizer(model, made, lr=0.1, weight_decay=0.0, head_lr=2.0)
    assert group_of(optimizer, made.table.weight)["lr_factor"] == 6.0
    assert group_of(optimizer, made.number)["lr_factor"] == 2.0
    before = made.table.weight.detach().clone()
    steps_of(made, optimizer, [1, 4], [4])
    moved = (made.table.weight != before).any(1).tolist()
    assert moved == [False, True, False, False, True, False]
    assert made.number != 1
    assert {type(part).__name__ for part in optimizer.parts} == {"AdamW", "SparseAdam"}


def test_both_optimizers_continue_exactly(model):
    def fresh():
        made = Signed()
        return made, build_optimizer(model, made, lr=0.1, weight_decay=0.0, head_lr=1.0)

    straight, optimizer = fresh()
    steps_of(straight, optimizer, [0, 1], [1, 2])
    state = optimizer.state_dict()
    weights = {name: value.clone() for name, value in straight.state_dict().items()}
    state = {
        **state,
        "state": {n: {k: v.clone() for k, v in e.items()} for n, e in state["state"].items()},
    }
    assert all(torch.is_tensor(v) for entries in state["state"].values() for v in entries.values())
    steps_of(straight, optimizer, [2, 5], [0])

    again, other = fresh()
    again.load_state_dict(weights)
    other.load_state_dict(state)
    steps_of(again, other, [2, 5], [0])
    assert torch.equal(again.table.weight, straight.table.weight)
    assert torch.equal(again.number, straight.number)


def test_without_tables_there_is_one_optimizer(model):
    optimizer = build_optimizer(model, torch.nn.Module(), 0.1, 0.01, head_lr=1.0)
    assert [type(part).__name__ for part in optimizer.parts] == ["AdamW"]
