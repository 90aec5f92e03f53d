"""Losses of pytorch-metric-learning within a method: as if called directly."""

import inspect

import pytest
import torch
from brute_force_losses import DIM, assert_agree, embeddings, library
from tiny_project import method_config

from rhs.config.instantiate import build
from rhs.errors import UserError
from rhs.methods.check_method import check_method
from rhs.methods.objective import build_objective
from rhs.training.optimization import build_optimizer

LIBRARY = "pytorch_metric_learning"
CLASSES = 8


def config(loss: dict | str | None = None, **more) -> dict:
    """The method file, with another loss of the library."""
    found = method_config("pml")
    if loss is None:
        return found | more
    recipe = {"_target_": f"{LIBRARY}.losses.{loss}"} if isinstance(loss, str) else loss
    return found | {"loss": recipe | {"_partial_": True}} | more


def objective(settings: dict):
    made = build_objective(settings)
    made.prepare(CLASSES, DIM)
    return made


@pytest.fixture(autouse=True)
def _needs_the_library():
    library("losses")


def test_the_method_file():
    x, labels = embeddings()
    theirs = library("losses").MultiSimilarityLoss()
    made = objective(config())
    assert_agree(lambda x: made(x, labels)[0], lambda x: theirs(x, labels), x, rtol=0, atol=0)


def test_settings_reach_the_loss():
    x, labels = embeddings()
    loss = {"_target_": f"{LIBRARY}.losses.ContrastiveLoss", "pos_margin": 0.2, "neg_margin": 0.9}
    theirs = library("losses").ContrastiveLoss(pos_margin=0.2, neg_margin=0.9)
    made = objective(config(loss))
    assert_agree(lambda x: made(x, labels)[0], lambda x: theirs(x, labels), x, rtol=0, atol=0)


def test_a_distance_of_the_library():
    x, labels = embeddings()
    distance = {"_target_": f"{LIBRARY}.distances.LpDistance", "normalize_embeddings": False}
    loss = {"_target_": f"{LIBRARY}.losses.TripletMarginLoss", "margin": 0.3, "distance": distance}
    theirs = library("losses").TripletMarginLoss(
        0.3, distance=library("distances").LpDistance(normalize_embeddings=False)
    )
    made = objective(config(loss))
    assert_agree(lambda x: made(x, labels)[0], lambda x: theirs(x, labels), x, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["ProxyAnchorLoss", "ProxyNCALoss"])
def test_a_loss_with_proxies_is_told_how_many_and_how_long(name):
    x, labels = embeddings()
    made = objective(config(name))
    assert made.loss.loss.proxies.shape == (CLASSES, DIM)
    assert {id(made.loss.loss.proxies)} == {id(p) for p in made.parameters()}
    assert "loss.loss.proxies" in made.state_dict()
    theirs = getattr(library("losses"), name)(num_classes=CLASSES, embedding_size=DIM)
    theirs.load_state_dict(made.loss.loss.state_dict())
    made.double(), theirs.double()
    assert_agree(lambda x: made(x, labels)[0], lambda x: theirs(x, labels), x, rtol=0, atol=0)
    made(x, labels)[0].backward()
    theirs(x, labels).backward()
    assert torch.equal(made.loss.loss.proxies.grad, theirs.proxies.grad)


NEEDS = {
    "RankedListLoss": {"margin": 1.0, "Tn": 10},
    "MultipleLosses": {
        "losses": [
            {"_target_": f"{LIBRARY}.losses.{name}", "_partial_": True}
            for name in ("SubCenterArcFaceLoss", "TripletMarginLoss")
        ]
    },
    "SelfSupervisedLoss": {"loss": {"_target_": f"{LIBRARY}.losses.TripletMarginLoss"}},
    "CrossBatchMemory": {"loss": {"_target_": f"{LIBRARY}.losses.TripletMarginLoss"}},
}
REFUSED = {
    "BaseLossWrapper": "is what losses inherit: choose a loss of embeddings and labels",
    "BaseMetricLossFunction": "is what losses inherit",
    "CrossBatchMemory": "keeps a queue of earlier batches that its state does not hold",
    "DynamicSoftMarginLoss": "keeps a histogram of earlier batches that its state does not hold",
    "GenericPairLoss": "is what losses inherit",
    "ManifoldLoss": "takes no labels: choose a loss of embeddings and labels",
    "SelfSupervisedLoss": "takes no labels",
    "VICRegLoss": "takes no labels",
}


def test_every_loss_of_the_library_steps_and_resumes_or_is_refused_in_a_sentence():
    """As the library has them, with nothing set that it does not insist on."""
    x, labels = (
        part.float() if part.is_floating_point() else part for part in embeddings((4,) * 4)
    )
    modules = library("losses")
    losses = [n for n, kind in vars(modules).items() if inspect.isclass(kind) and "Loss" in n]
    assert {*REFUSED, *NEEDS, "CosFaceLoss", "P2SGradLoss"} - set(losses) == {"CrossBatchMemory"}
    for name in [*losses, "CrossBatchMemory"]:
        settings = config({"_target_": f"{LIBRARY}.losses.{name}", **NEEDS.get(name, {})})
        if name in REFUSED:
            with pytest.raises(UserError, match=f"^{name} {REFUSED[name]}"):
                check_method(settings, CLASSES, DIM)
            continue
        made, again = check_method(settings, CLASSES, DIM), objective(settings)
        again.load_state_dict(made.state_dict())
        anchor = x.clone().requires_grad_()
        value = made(anchor, labels)[0]
        value.backward()
        assert value.isfinite(), name
        assert anchor.grad.abs().sum() > 0, name
        assert torch.equal(value, again(x, labels)[0]), name


def test_the_manual_s_table_of_losses_is_what_is_found():
    import pml_table

    (shown,) = pml_table.SECTION.findall(pml_table.PAGE.read_text(encoding="utf-8"))
    assert shown == pml_table.table(), "make pml-table writes it anew"


def test_losses_inside_another_need_not_say_that_they_come_later():
    inside = [{"_target_": f"{LIBRARY}.losses.{name}"} for name in ("CosFaceLoss", "NCALoss")]
    loss = {"_target_": f"{LIBRARY}.losses.MultipleLosses", "losses": inside, "weights": [2, 3]}
    made = objective(config(loss)).loss.loss
    x, labels = embeddings()
    cos, nca = library("losses").CosFaceLoss(CLASSES, DIM), library("losses").NCALoss()
    cos.load_state_dict(made.losses[0].state_dict())
    torch.testing.assert_close(
        made.double()(x, labels), 2 * cos.double()(x, labels) + 3 * nca(x, labels)
    )


def test_proxies_learn_at_a_rate_of_their_own():
    inside = [{"_target_": f"{LIBRARY}.losses.{name}"} for name in ("CosFaceLoss", "ProxyNCALoss")]
    loss = {"_target_": f"{LIBRARY}.losses.MultipleLosses", "losses": inside}
    made = objective(config(loss, lr_factor=3.0))
    optimizer = build_optimizer(torch.nn.Linear(2, 2), made, lr=0.1, weight_decay=0.0, head_lr=2.0)
    of = {id(p): g["lr_factor"] for g in optimizer.param_groups for p in g["params"]}
    assert [of[id(parameter)] for parameter in made.parameters()] == [6.0, 6.0]
    with pytest.raises(UserError, match=r"^lr_factor of the loss is 0; .* above 0\.$"):
        build_objective(config(loss, lr_factor=0))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("SubCenterArcFaceLoss", (DIM, 3 * CLASSES)),
        ("CosFaceLoss", (DIM, CLASSES)),
        ("P2SGradLoss", (DIM, CLASSES)),
        ("SoftTripleLoss", (DIM, 10 * CLASSES)),
    ],
)
def test_numbers_that_a_base_asks_for_are_filled_in(name, shape):
    (weight,) = objective(config(name)).parameters()
    assert weight.shape == shape


def test_a_loss_that_is_not_told_how_many_classes_is_a_sentence():
    whole = {"_target_": f"{LIBRARY}.losses.SubCenterArcFaceLoss"}
    with pytest.raises(UserError, match="does not work as it is set: 'num_classes' is missing"):
        check_method(config() | {"loss": whole, "name": "mine"})


def test_what_is_set_is_not_filled_in():
    loss = {"_target_": f"{LIBRARY}.losses.ProxyNCALoss", "num_classes": 11}
    assert objective(config(loss)).loss.loss.proxies.shape == (11, DIM)


def test_a_miner():
    x, labels = embeddings()
    miner = {"_target_": f"{LIBRARY}.miners.MultiSimilarityMiner", "epsilon": -0.2}
    made = objective(config("MultiSimilarityLoss", miner=miner))
    theirs = library("losses").MultiSimilarityLoss()
    chosen = library("miners").MultiSimilarityMiner(epsilon=-0.2)(x, labels)
    assert_agree(
        lambda x: made(x, labels)[0], lambda x: theirs(x, labels, chosen), x, rtol=0, atol=0
    )
    assert made(x, labels)[0] != theirs(x, labels)


def test_every_step_mines_anew():
    x, labels = embeddings()
    miner = {"_target_": f"{LIBRARY}.miners.BatchHardMiner"}
    made = objective(config("TripletMarginLoss", miner=miner))
    values = [made(some, labels)[0] for some in (x, x.roll(1, 1), embeddings(seed=1)[0])]
    assert values[0] != values[2]
    torch.testing.assert_close(values[0], values[1])  # a turned space


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            f"{LIBRARY}.losses.NoSuchLoss",
            "'pytorch_metric_learning.losses.NoSuchLoss' does not exist",
        ),
        (f"{LIBRARY}.no_such_part.Loss", "out of bounds"),
        (f"{LIBRARY}.utils.common_functions.to_device", "out of bounds"),
        (f"{LIBRARY}.losses.no_such_module.Loss", "does not exist"),
        ("os.system", "'os.system' is out of bounds; it must start with 'rhs.' or 'pytorch_metric"),
        ("pytorch_metric_learning_too.Loss", "out of bounds"),
        (f"{LIBRARY}.losses.triplet_margin_loss.torch", "only imported there"),
    ],
)
def test_a_wrong_target_is_a_sentence(target, message):
    with pytest.raises(UserError, match=message):
        build_objective(config({"_target_": target}))


def test_a_setting_the_loss_does_not_have_is_a_sentence():
    loss = {"_target_": f"{LIBRARY}.losses.TripletMarginLoss", "margins": 0.3}
    with pytest.raises(UserError, match=r"method mine does not work as it is set.*'margins'"):
        check_method(config(loss) | {"name": "mine"})


def test_a_loss_may_also_come_whole():
    x, labels = embeddings()
    whole = {"_target_": f"{LIBRARY}.losses.TripletMarginLoss", "margin": 0.3}
    made = objective(config(whole) | {"loss": whole})
    theirs = library("losses").TripletMarginLoss(0.3)
    assert_agree(lambda x: made(x, labels)[0], lambda x: theirs(x, labels), x, rtol=0, atol=0)


def test_a_loss_with_a_queue_is_refused():
    inner = {"_target_": f"{LIBRARY}.losses.ContrastiveLoss"}
    loss = {"_target_": f"{LIBRARY}.losses.CrossBatchMemory", "loss": inner, "memory_size": 32}
    with pytest.raises(
        UserError, match="CrossBatchMemory keeps a queue of earlier batches that its state"
    ):
        objective(config(loss))


@pytest.mark.parametrize("part", ["mining", "generator"])
def test_what_chooses_or_makes_pairs_is_refused(part):
    from rhs.methods.objective import Objective
    from rhs.methods.pml import PMLLoss

    chosen = build(method_config("rhs_npair")[part])
    with pytest.raises(UserError, match=rf"PMLLoss takes embeddings and labels.*method\.{part}"):
        Objective(PMLLoss(torch.nn.Identity()), **{part: chosen})
