"""`rhs.MetricLoss`: nothing happens in silence."""

import warnings

import pytest
import torch
from torch import nn

import rhs

C, D = 4, 8
LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
X = torch.randn(len(LABELS), D, generator=torch.Generator().manual_seed(0))


def state(loss_fn: nn.Module) -> dict:
    return {name: value.clone() for name, value in loss_fn.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_schedule_needs_to_be_told_of_the_progress():
    loss_fn = rhs.create_loss("rhs_npair", C, D)
    with pytest.raises(rhs.UserError, match=r"total_steps .*set_progress"):
        loss_fn(X, LABELS)
    loss_fn.set_progress(1.0)
    told = loss_fn(X, LABELS)
    counted = rhs.create_loss("rhs_npair", C, D, total_steps=2)
    assert not torch.equal(counted(X, LABELS), told)  # its first step rotates nothing
    constant = rhs.create_loss("rhs_npair", C, D, schedule="constant")
    assert torch.equal(constant(X, LABELS), told)
    with pytest.raises(rhs.UserError, match=r"progress is 1.5"):
        loss_fn.set_progress(1.5)


def test_steps_are_counted_in_training_alone_and_beyond_the_last_with_a_warning():
    loss_fn = rhs.create_loss("rhs_npair", C, D, total_steps=2)
    loss_fn.eval()(X, LABELS)
    with torch.no_grad():
        loss_fn.train()(X, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_fn(X, LABELS)
        loss_fn(X, LABELS)
    with pytest.warns(UserWarning, match="beyond total_steps=2"):
        loss_fn(X, LABELS)


@pytest.mark.parametrize("name", ["rhs_npair_epoch", "iaa_triplet", "schem"])
def test_what_needs_the_training_set_says_so(name):
    loss_fn = rhs.create_loss(name, C, D, total_steps=9)
    assert loss_fn.needs_refresh
    with pytest.raises(rhs.UserError, match=r"loss_fn.refresh\(loader, model\)"):
        loss_fn(X, LABELS)
    model = nn.Sequential(nn.Linear(5, D), nn.Dropout(0.5))
    model[0].eval()
    images = torch.randn(len(LABELS), 5)
    loss_fn.refresh([(images, LABELS)], model)
    assert [part.training for part in model.modules()] == [True, False, True]
    assert torch.isfinite(loss_fn(X, LABELS))
    again = rhs.create_loss(name, C, D, total_steps=9)
    again.refresh([(model.eval()(images).detach(), LABELS)])
    again.load_state_dict(loss_fn.state_dict())  # it has been shown the training set
    assert torch.isfinite(again(X, LABELS))


def test_evaluation_leaves_everything_alone():
    loss_fn = rhs.create_loss("rhs_npair", C, D, total_steps=9)
    loss_fn(X, LABELS)
    before = state(loss_fn)
    loss_fn.eval()(X + 1, LABELS + 1)
    with torch.no_grad():
        loss_fn.train()(X + 1, LABELS + 1)
    assert same(state(loss_fn), before)
    loss_fn(X + 1, LABELS)
    assert not same(state(loss_fn), before)


def test_any_whole_numbers_are_labels():
    plain, ids = (rhs.create_loss("normalized_softmax", C, D) for _ in "ab")
    ids.load_state_dict(plain.state_dict())
    # 7, 9 and 1000 are given the highest numbers that are free: 3, 2, 1
    named = torch.tensor([7, 7, 7, 9, 9, 9, 1000, 1000, 1000])
    assert torch.equal(ids(X, named), plain(X, 3 - LABELS))
    assert ids.label_encoder.label_C.tolist() == [-1, 1000, 9, 7]
    # 0 has its own number; those before keep theirs
    more = torch.tensor([0, 0, 0, 9, 9, 9, 7, 7, 7])
    assert torch.equal(ids(X, more), plain(X, torch.tensor([0, 0, 0, 2, 2, 2, 3, 3, 3])))
    for wrong, sentence in (
        (torch.where(LABELS == 1, 55, LABELS), "label 2, but num_classes is 4"),
        (LABELS - 1, "label -1; labels must be 0 or more"),
    ):
        with pytest.raises(rhs.UserError, match=sentence):
            ids(X, wrong)


def test_types_of_labels():
    loss_fn = rhs.create_loss("npair", C, D)
    expected = loss_fn(X, LABELS)
    for labels in (LABELS.int(), LABELS.to(torch.uint8), LABELS.numpy(), LABELS.tolist()):
        assert torch.equal(loss_fn(X, labels), expected)


@pytest.mark.parametrize(
    ("embeddings", "labels", "sentence"),
    [
        (torch.zeros(9, D + 1), LABELS, r"embeddings has shape \(9, 9\)"),
        (torch.zeros(D), LABELS, r"embeddings has shape \(8,\)"),
        (torch.zeros(9, D, dtype=torch.long), LABELS, "of real numbers"),
        (X, LABELS[:5], r"labels has shape \(5,\)"),
        (X, LABELS.float(), "torch.float32; it must be"),
        (X, LABELS > 0, "torch.bool; it must be"),
        (X[:0], LABELS[:0], "The batch is empty"),
        (X.to("meta"), LABELS, r"on meta.*loss_fn.to\(embeddings.device\)"),
    ],
)
def test_tensors_that_do_not_fit(embeddings, labels, sentence):
    with pytest.raises(rhs.UserError, match=sentence):
        rhs.create_loss("npair", C, D)(embeddings, labels)


def test_continuous_labels():
    values = torch.arange(2.0 * C).reshape(C, 2)
    of_classes = rhs.create_loss("log_ratio", C, D, class_values=values)
    of_rows = rhs.create_loss("log_ratio", C, D)
    assert torch.allclose(of_classes(X, LABELS), of_rows(X, LABELS, values[LABELS]))
    with pytest.raises(rhs.UserError, match="continuous labels: give class_values"):
        of_rows(X, LABELS)
    with pytest.raises(rhs.UserError, match="values was given"):
        of_classes(X, LABELS, values[LABELS])
    with pytest.raises(rhs.UserError, match=r"label 9; labels must be 0 to 3"):
        of_classes(X, torch.where(LABELS == 2, 9, LABELS))


def test_parameters_are_there_for_an_optimizer_made_at_once():
    loss_fn = rhs.create_loss("normalized_softmax", C, D)
    optimizer = torch.optim.SGD(loss_fn.parameters(), lr=1.0)
    before = state(loss_fn)
    loss_fn(X, LABELS).backward()
    optimizer.step()
    assert not same(state(loss_fn), before)
    with pytest.warns(UserWarning, match="sparse gradients: give it to torch.optim.SparseAdam"):
        rhs.create_loss("normalized_softmax", C, D, sampled=2)


def test_two_of_a_class_about_the_batch_mean():
    loss_fn = rhs.create_loss("rhs_npair_batch", C, D, total_steps=9)
    pairs = torch.tensor([0, 0, 1, 1, 2, 2])
    with pytest.warns(UserWarning, match="rotations move nothing.*three or more"):
        loss_fn(X[:6], pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        loss_fn(X[:6], pairs)
        rhs.create_loss("rhs_npair_batch", C, D, total_steps=9)(X, LABELS)


def test_its_state_goes_on_where_it_was():
    one = rhs.create_loss("rhs_npair", C, D, total_steps=9)
    ids = LABELS * 1000
    one(X, ids)
    other = rhs.create_loss("rhs_npair", C, D, total_steps=9)
    other.load_state_dict(one.state_dict())
    for shift in (1, 2):
        assert torch.equal(one(X + shift, ids), other(X + shift, ids))
