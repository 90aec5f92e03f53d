"""`rhs.create_loss`: every method's file by its name."""

import ast
from pathlib import Path

import pytest
import torch
from tiny_project import METHODS, method_config

import rhs
from rhs.methods.objective import build_objective

C, D, STEPS = 6, 8, 5
LABELS = torch.arange(C).repeat_interleave(3)
NAMES = [name for name in METHODS if name != "pml"]


def batches() -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(len(LABELS), D, generator=random) for _ in range(STEPS)]


def loss_of(name: str, **more) -> rhs.MetricLoss:
    if name == "log_ratio":
        more["class_values"] = torch.arange(2.0 * C).reshape(C, 2)
    torch.manual_seed(1)
    loss_fn = rhs.create_loss(name, C, D, total_steps=STEPS, **more)
    if loss_fn.needs_refresh:
        loss_fn.refresh([(x, LABELS) for x in batches()])
    return loss_fn


@pytest.mark.filterwarnings("ignore:Most rotations", "ignore:.*sparse gradients")
@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_loss_of_the_pipeline(name):
    loss_fn = loss_of(name)
    torch.manual_seed(1)
    objective = build_objective(method_config(name))
    values = {"values_CL": torch.arange(2.0 * C).reshape(C, 2)} if name == "log_ratio" else {}
    objective.prepare(C, D, **values)
    if objective.needs_refresh(0):
        objective.refresh(0, [(x, LABELS) for x in batches()])
    for step, x in enumerate(batches()):
        torch.manual_seed(step)
        mine = loss_fn(x.clone().requires_grad_(), LABELS)
        torch.manual_seed(step)
        theirs, measured = objective(x.clone().requires_grad_(), LABELS, step / STEPS, alike=True)
        assert mine.shape == ()
        assert torch.equal(mine, theirs)
        assert {k: float(v) for k, v in loss_fn.diagnostics.items()} == {
            k: float(v) for k, v in measured.items()
        }


def test_editors_see_what_there_is():
    tree = ast.parse(Path(rhs.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    shown = {name.asname for line in block.body for name in line.names}
    assert shown == set(rhs.__all__) - {"__version__"}


def test_names_by_a_pattern():
    assert rhs.list_losses() == sorted(METHODS)
    assert rhs.list_losses("rhs_t*") == ["rhs_triplet"]
    assert rhs.list_losses("no such") == []


@pytest.mark.parametrize(
    "overrides",
    [{"scale": 4.0}, {"loss": {"scale": 4.0}}, {"loss.scale": 4.0}],
)
def test_an_override_in_its_three_forms(overrides):
    assert loss_of("rhs_npair", **overrides).objective.loss.scale == 4.0


def test_another_part_or_an_object_takes_a_place():
    centers = {"_target_": "rhs.methods.centers.SubCenters", "groups": 2, "momentum": 0.5}
    assert isinstance(loss_of("rhs_npair", centers=centers).objective.centers, rhs.SubCenters)
    for key, part in (
        ("centers", rhs.EMACenters(momentum=0.9)),
        ("generator", rhs.Rotation(start=0.5)),
        ("mining", rhs.PairMiner(positives="synthetic")),
        ("loss", rhs.NPair(scale=4.0)),
    ):
        loss_fn = loss_of("rhs_npair", **{key: part})
        assert getattr(loss_fn.objective, key) is part
        assert torch.isfinite(loss_fn(batches()[0], LABELS))


def test_composed_of_classes():
    objective = rhs.Objective(
        loss=rhs.NPair(scale=16.0),
        mining=rhs.PairMiner(positives="hardest"),
        generator=rhs.Rotation(start=0.0, end=1.0),
        centers=rhs.EMACenters(momentum=0.5),
        original_weight=0.5,
    )
    loss_fn, named = rhs.MetricLoss(objective, C, D, total_steps=STEPS), loss_of("rhs_npair")
    for x in batches():
        assert torch.equal(loss_fn(x, LABELS), named(x, LABELS))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: rhs.create_loss("rhs_npar", 3, 8), "no loss 'rhs_npar'.*nearest: rhs_npair"),
        (lambda: rhs.create_loss("npair", 3, 8, scal=1), "scal is unknown"),
        (lambda: rhs.create_loss("npair", 3, 8, scale="x"), "loss.scale is 'x'"),
        (lambda: rhs.create_loss("npair", 1, 8), "num_classes is 1"),
        (lambda: rhs.create_loss("npair", 3, 0), "embedding_size is 0"),
        (lambda: rhs.create_loss("npair", 3, 8, total_steps=0), "total_steps is 0"),
        (lambda: rhs.create_loss("npair", 3, 8, class_values=torch.ones(3, 1)), "class_values"),
        (
            lambda: rhs.create_loss("npair", 3, 8, loss={"_target_": "os.system"}),
            "'os.system' is out of bounds",
        ),
        (
            lambda: rhs.create_loss("symm_rhs_npair", 3, 8, _target_="rhs.clean"),
            "_target_",
        ),
    ],
)
def test_what_it_refuses(call, sentence):
    with pytest.raises(rhs.UserError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ArcFaceLoss", {"margin": 30}),
        ("SubCenterArcFaceLoss", {}),
        ("ProxyAnchorLoss", {}),
        ("SupConLoss", {"temperature": 0.2}),
    ],
)
def test_any_loss_of_pytorch_metric_learning_by_its_target(name, settings):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    target = {"_target_": f"pytorch_metric_learning.losses.{name}", **settings}
    loss_fn = rhs.create_loss("pml", C, D, loss=target, lr_factor=5.0)
    sizes = {} if name == "SupConLoss" else {"num_classes": C, "embedding_size": D}
    theirs = getattr(losses, name)(**sizes, **settings)
    theirs.load_state_dict(loss_fn.objective.loss.loss.state_dict())
    x = batches()[0]
    assert torch.equal(loss_fn(x, LABELS), theirs(x, LABELS))
    assert len(list(loss_fn.parameters())) == len(list(theirs.parameters()))


def test_a_setting_that_several_parts_have():
    with pytest.raises(rhs.UserError, match=r"Several parts .* write generator={.* or loss={"):
        rhs.create_loss("iaa_multi_similarity", 3, 8, beta=1.0)
