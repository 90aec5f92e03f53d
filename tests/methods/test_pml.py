"""Losses of pytorch-metric-learning within a method: as if called directly."""

import pytest
import torch
from brute import DIM, assert_agree, embeddings, library
from tiny import method_config

from rhs.build import build
from rhs.errors import UserError
from rhs.methods.objective import build_objective, check_method

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


def test_what_is_set_is_not_filled_in():
    loss = {"_target_": f"{LIBRARY}.losses.ProxyNCALoss", "num_classes": 11}
    assert objective(config(loss)).loss.loss.proxies.shape == (11, DIM)


def test_a_miner():
    x, labels = embeddings()
    miner = {"_target_": f"{LIBRARY}.miners.MultiSimilarityMiner", "epsilon": -0.2}
    made = objective(config("MultiSimilarityLoss", miner=miner))
    theirs = library("losses").MultiSimilarityLoss()
    chosen = library("miners").MultiSimilarityMiner(epsilon=-0.2)(x, labels)
    assert_agree(lambda x: made(x, labels)[0], lambda x: theirs(x, labels, chosen), x,
                 rtol=0, atol=0)  # fmt: skip
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
    with pytest.raises(UserError, match=r"CrossBatchMemory keeps a queue whose position its state"):
        objective(config(loss))


@pytest.mark.parametrize("part", ["mining", "generator"])
def test_what_chooses_or_makes_pairs_is_refused(part):
    from rhs.methods.objective import Objective
    from rhs.methods.pml import External

    chosen = build(method_config("rhs_npair")[part])
    with pytest.raises(UserError, match=rf"External takes embeddings and labels.*method\.{part}"):
        Objective(External(torch.nn.Identity()), **{part: chosen})
