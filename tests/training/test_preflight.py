"""What is checked before anything starts: each mistake is a sentence."""

import json

import pytest
from tiny_project import small_params, write_shards

from rhs.config.settings import Params
from rhs.errors import UserError
from rhs.training.components import labels_of, plan_of
from rhs.training.preflight import check


def config(*overrides: str) -> Params:
    return small_params(*overrides)


def test_every_image_has_its_class_or_its_group(tiny_shards):
    from rhs.data.shards import ShardedImages

    images = ShardedImages(tiny_shards, "train")
    labels, names = labels_of(config(), images)
    assert names == [f"class{i:03d}" for i in range(8)]
    labels, names = labels_of(config(r"dataset.coarse='class00[0-3]|class'"), images)
    assert names == ["class", "class000", "class001", "class002", "class003"]
    assert (labels == 0).sum() == (images.labels > 3).sum()


def test_a_method_may_bring_its_own_plan(tiny_shards):
    from rhs.data.shards import ShardedImages

    labels = ShardedImages(tiny_shards, "train").labels
    assert not plan_of(config(), labels).adaptive
    plan = plan_of(config("method=schem"), labels)
    assert plan.adaptive
    assert (plan.classes, plan.per_class, plan.alpha) == (4, 2, 2.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=log_ratio"], "log-ratio loss compares continuous labels.*name each class folder"),
        (["method=schem", "method.batches.alpha=0.5"], r"method\.batches\.alpha is 0\.5"),
        (["method=schem", "method.batches.alpha=abc"], r"method\.batches\.alpha is 'abc'"),
        (["method=schem", "method.batches=abc"], r"method\.batches is 'abc'"),
        (["method=schem", "method.signatures=null"], r"method\.signatures is null"),
        (["method.mining=abc"], r"method\.mining is 'abc'; it must be a group with a _target_"),
        (["++method.mining.negatives=[[anchor]]"], "give pairs of anchor"),
        (["method=margin", "method.loss.beta=abc"], r"loss\.beta is 'abc'"),
        (["method=iaa_triplet", "method.generator.few=abc"], r"generator\.few is 'abc'"),
        (
            ["method=schem", "method.signatures.lr_factor=abc"],
            r"signatures\.lr_factor is 'abc'",
        ),
        (["method.loss.scale=-16"], r"loss\.scale is -16; it must be a number above 0"),
        (["train.head_lr=abc"], r"train\.head_lr is 'abc'"),
        (["train.weight_decay=-1"], r"train\.weight_decay is -1"),
        (["train.per_class=2.5"], r"train\.per_class is 2\.5; it must be a whole number"),
        (["seed=abc"], "seed is 'abc'"),
        (
            ["seed=100000000000000"],
            "seed is 100000000000000; .* at least 0 and at most 2,000",
        ),
        (["method.normalize=maybe"], r"method\.normalize is 'maybe'"),
        (
            ["method=npair", "+method.original_weight=0.5"],
            r"method\.original_weight is for a generator",
        ),
        (["method=schem", "method.batches._target_=os.system"], "out of bounds"),
        (["dataset.coarse=nothing"], "finds nothing in class 'class000'"),
        (["method.generator.schedule=exponential"], r"generator\.schedule is 'exponential'"),
        (["method=triplet", "method.loss.margin=-1"], r"loss\.margin is -1"),
        (["train.warmup=1000"], r"train\.warmup is 1000 steps"),
        (["+dataset.augment.rotate=3"], "accepted: scale, ratio, flip, jitter"),
        (["dataset.augment=null"], r"dataset\.augment is None"),
        (["dataset.recall_at=[1.5]"], r"recall_at is 1\.5"),
        (["dataset.recall_at=5"], r"recall_at is 5; it must be a list"),
        (["dataset.recall_at=[]"], r"recall_at is \[\]"),
        (["cluster.input=dali"], r"cluster\.input is 'dali'"),
        (["train.trunk=other"], r"train\.trunk is 'other'; accepted: trained, frozen\."),
        (["train.select=first"], r"train\.select is 'first'; accepted: last, best, best_map@r\."),
        (["train.trunk=frozen", "cluster.input=ray"], r"sends images: choose cluster\.input=auto"),
    ],
)
def test_a_mistake_is_a_sentence(tiny_shards, overrides, message):
    with pytest.raises(UserError, match=message):
        check(config(*overrides), tiny_shards)


def test_the_best_is_asked_for_where_no_classes_are_held_out(tmp_path):
    folder = write_shards(tmp_path / "none", train=[4, 4, 4, 4])
    check(config(), folder)
    with pytest.raises(UserError, match=r"train\.select=best needs held-out classes"):
        check(config("train.select=best"), folder)


def test_classes_named_by_numbers_may_be_compared_as_numbers(tmp_path):
    folder = write_shards(tmp_path / "ages", train=[4, 4, 4, 4, 4])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["class_names"] = ["20", "25.5", "31", "40", "55"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    check(config("method=log_ratio"), folder)


@pytest.mark.parametrize(
    ("method", "per_class", "told"),
    [
        ("eps_triplet", 2, True),
        ("triplet_random", 2, True),
        ("eps_triplet", 3, False),
        ("triplet", 2, False),
        ("npair", 2, False),
        ("rhs_npair", 2, False),
    ],
)
def test_a_choice_among_one_is_told(tiny_shards, capsys, method, per_class, told):
    check(config(f"method={method}", f"train.per_class={per_class}"), tiny_shards)
    assert ("chooses nothing" in capsys.readouterr().out) == told


@pytest.mark.parametrize("method", ["rhs_npair_batch", "rhs_npair_loo"])
@pytest.mark.parametrize("per_class", [2, 3])
def test_rotations_that_cannot_move_are_told(tiny_shards, capsys, method, per_class):
    check(config(f"method={method}", f"train.per_class={per_class}"), tiny_shards)
    assert ("no rotation moves anything" in capsys.readouterr().out) == (per_class == 2)
