"""Whatever callers give to what measures: it is taken, or refused in one sentence."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from retrieved import clustered

from rhs.errors import UserError
from rhs.metrics.neighbors import neighbors
from rhs.metrics.nmi import nmi
from rhs.metrics.retrieval import score

EMBEDDINGS, LABELS = clustered(np.random.default_rng(0), 40, 6)
EMBEDDINGS = np.round(EMBEDDINGS * 8) / 8  # the same in every type of float
QUERIES = np.arange(40) % 3 == 0


def as_names(labels) -> list[str]:
    return [f"class {label:03}" for label in labels]


@pytest.mark.parametrize(
    "given",
    [
        EMBEDDINGS.astype(np.float64),
        EMBEDDINGS.astype(np.float16),
        EMBEDDINGS.astype(np.longdouble),
        EMBEDDINGS.astype(object),
        np.asfortranarray(EMBEDDINGS),
        EMBEDDINGS[::-1][::-1],
        EMBEDDINGS.tolist(),
        tuple(EMBEDDINGS),
        pd.DataFrame(EMBEDDINGS),
        torch.tensor(EMBEDDINGS),
        torch.tensor(EMBEDDINGS, requires_grad=True),
        torch.tensor(EMBEDDINGS, dtype=torch.bfloat16),
        torch.tensor(EMBEDDINGS, dtype=torch.float16, requires_grad=True) * 1,
        torch.tensor(EMBEDDINGS).to_sparse(),
        list(torch.tensor(EMBEDDINGS, requires_grad=True)),
        (EMBEDDINGS * 8).astype(np.int16),
        [[Decimal(float(v)) for v in row] for row in EMBEDDINGS],
    ],
)
def test_embeddings_of_any_kind_are_the_same(given):
    plain = EMBEDDINGS.astype(np.float32)
    assert score(given, LABELS) == score(plain, LABELS)
    assert nmi(given, LABELS, seeds=1) == nmi(plain, LABELS, seeds=1)
    assert np.array_equal(neighbors(given, 3)[1], neighbors(plain, 3)[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_tensors_of_a_gpu_are_taken():
    x = torch.tensor(EMBEDDINGS, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    labels, queries = torch.tensor(LABELS).cuda(), torch.tensor(QUERIES).cuda()
    expected = score(EMBEDDINGS, LABELS, [1], QUERIES)
    assert score(x, labels, torch.tensor([1]).cuda(), queries) == expected
    assert score(x, labels, [1], queries, device="cuda:0") == expected
    assert score(x, labels, [1], queries, device="cpu") == expected
    assert nmi(x, labels, seeds=1) == nmi(EMBEDDINGS, LABELS, seeds=1)


@pytest.mark.parametrize(
    "given",
    [
        LABELS.astype(np.uint8),
        LABELS.astype(np.float32),
        LABELS.astype(object),
        LABELS + 10**15,
        LABELS.astype(np.uint64) + np.uint64(2**63),
        [int(label) + 2**80 for label in LABELS],
        LABELS.tolist(),
        pd.Series(LABELS, dtype="Int64"),
        torch.tensor(LABELS),
        torch.tensor(LABELS, dtype=torch.bfloat16),
        [torch.tensor(label) for label in LABELS],
        as_names(LABELS),
        np.array(as_names(LABELS)),
        np.array(as_names(LABELS), dtype=object),
        np.array(as_names(LABELS), dtype="S"),
        np.array(as_names(LABELS), dtype=np.dtypes.StringDType()),
        pd.Series(as_names(LABELS)),
        pd.Categorical(as_names(LABELS)),
    ],
)
def test_labels_of_any_kind_are_the_same(given):
    assert score(EMBEDDINGS, given, [1], QUERIES) == score(EMBEDDINGS, LABELS, [1], QUERIES)
    assert nmi(EMBEDDINGS, given, seeds=1) == nmi(EMBEDDINGS, LABELS, seeds=1)


@pytest.mark.parametrize(
    "given", [QUERIES.tolist(), torch.tensor(QUERIES), pd.Series(QUERIES), QUERIES.astype(object)]
)
def test_queries_of_any_kind_are_the_same(given):
    assert score(EMBEDDINGS, LABELS, [1], given) == score(EMBEDDINGS, LABELS, [1], QUERIES)
    assert np.array_equal(neighbors(EMBEDDINGS, 3, given)[1], neighbors(EMBEDDINGS, 3, QUERIES)[1])


@pytest.mark.parametrize(
    "given",
    [np.array([1, 5]), torch.tensor([1, 5]), (1, np.int8(5)), range(1, 6, 4), iter([1, 5, 1])],
)
def test_ks_of_any_kind_are_the_same(given):
    assert score(EMBEDDINGS, LABELS, given) == score(EMBEDDINGS, LABELS, [1, 5])


def test_settings_may_be_numbers_of_numpy():
    plain = score(EMBEDDINGS, LABELS, [1], draws=20, seed=3, memory_mib=8, device="cpu")
    many = {"draws": np.int64(20), "seed": np.uint8(3), "memory_mib": torch.tensor(8)}
    assert score(EMBEDDINGS, LABELS, [1], device=torch.device("cpu"), **many) == plain
    assert neighbors(EMBEDDINGS, np.int64(2))[1].shape == (40, 2)


def bad_row(value, kind=np.float32):
    given = EMBEDDINGS.astype(kind)
    given[7, 0] = value
    return given


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (bad_row(np.nan), "Embedding row 7 holds NaN or infinity"),
        (torch.tensor(bad_row(-np.inf)).bfloat16(), "Embedding row 7 holds NaN or infinity"),
        (bad_row(np.longdouble("1e4000"), np.longdouble), "Embedding row 7 holds NaN or infinity"),
        (bad_row(1j, np.complex64), "Embeddings are of type complex64; real numbers are needed"),
        (torch.tensor(bad_row(1j, np.complex64)).conj(), "of type complex64"),
        (EMBEDDINGS.astype(str), "Embeddings are of type <U32; real numbers"),
        (EMBEDDINGS.astype(np.int64).astype("M8[s]"), "of type datetime64"),
        (bad_row(None, object), "Embedding row 7 holds NaN or infinity"),
        (bad_row(10**400, object), "of type object"),
        (np.ma.masked_less(EMBEDDINGS, 0), "cannot be read as an array .some values are masked"),
        ([[1.0, 2.0], [1.0]], "Embeddings cannot be read as an array"),
        ([torch.ones(2), torch.ones(3)], "Embeddings cannot be read as an array"),
        (torch.ones(40, 3, device="meta"), "Embeddings cannot be read as an array"),
        (None, r"Embeddings have shape \(\); a matrix"),
        ("embeddings", r"Embeddings have shape \(\)"),
        (EMBEDDINGS[0], r"Embeddings have shape \(\d+,\)"),
        (EMBEDDINGS[:, :0], "a matrix"),
        (EMBEDDINGS[None], "a matrix"),
        ([], "a matrix"),
        (torch.ones(1, 4), "only 1 embedding; retrieval needs at least 2"),
    ],
)
@pytest.mark.parametrize("measure", [score, nmi, lambda x, labels: neighbors(x, 1)])
def test_embeddings_that_cannot_be_measured_are_told(measure, given, says):
    with pytest.raises(UserError, match=says) as told:
        measure(given, LABELS)
    assert "\n" not in str(told.value)


def bad_label(value, kind=np.float32):
    given = LABELS.astype(kind)
    given[7] = value
    return given


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (bad_label(np.nan), "Label row 7 is nan; a whole number or a name is needed"),
        (bad_label(0.5), "Label row 7 is 0.5"),
        (torch.tensor(bad_label(np.inf)), "Label row 7 is inf"),
        (bad_label(None, object), "Label row 7 is None"),
        (pd.Series(bad_label(None, object), dtype="Int64"), "Label row 7 is"),
        ([*as_names(LABELS[1:]), float("nan")], "Label row 39 is nan"),
        (pd.Series([*as_names(LABELS[1:]), None]), "Label row 39 is"),
        ([*as_names(LABELS[1:]), 3], "names and numbers"),
        (LABELS.astype("M8[s]"), "Labels are of type datetime64"),
        (LABELS.astype(complex), "Labels are of type complex128"),
        (LABELS[1:], r"Labels have shape \(39,\) for 40 embeddings"),
        (LABELS[:, None], r"Labels have shape \(40, 1\)"),
        (np.eye(40), "one label per embedding"),
        (None, r"Labels have shape \(\)"),
        ([[0], [1, 2]] * 20, "Labels cannot be read as an array"),
    ],
)
@pytest.mark.parametrize("measure", [score, nmi])
def test_labels_that_are_none_are_told(measure, given, says):
    with pytest.raises(UserError, match=says) as told:
        measure(EMBEDDINGS, given)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("ks", [[1.5], [True], [np.True_], [2, 0], [-1], ["1"], [None], [[1]]])
def test_a_k_that_is_no_whole_number_is_told(ks):
    with pytest.raises(UserError, match=r"K of Recall@K is .*; it must be a whole number at least"):
        score(EMBEDDINGS, LABELS, ks)


@pytest.mark.parametrize("ks", ["max", 5, None, [], np.array([], int), np.array(3)])
def test_ks_that_are_no_list_are_told(ks):
    with pytest.raises(UserError, match=r"ks is .*; it must be a list of whole numbers, each at"):
        score(EMBEDDINGS, LABELS, ks)


@pytest.mark.parametrize(
    ("measure", "settings"),
    [
        (score, {"draws": -1}),
        (score, {"draws": 1.5}),
        (score, {"draws": True}),
        (score, {"draws": None}),
        (score, {"seed": -1}),
        (score, {"seed": None}),
        (score, {"memory_mib": -1}),
        (score, {"memory_mib": 0.5}),
        (nmi, {"seeds": 1.5}),
        (nmi, {"seeds": True}),
        (nmi, {"draws": "many"}),
        (nmi, {"seed": 2**31}),
        (nmi, {"iterations": np.nan}),
        (neighbors, {"k": 0}),
        (neighbors, {"k": 1.5}),
        (neighbors, {"k": True}),
        (neighbors, {"k": "all"}),
    ],
)
def test_a_setting_out_of_range_is_told(measure, settings):
    ((name, _),) = settings.items()
    labels = {} if measure is neighbors else {"labels_N": LABELS}
    with pytest.raises(UserError, match=rf"^{name} is .*; it must be a whole number at least"):
        measure(EMBEDDINGS, **labels, **settings)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps", 1.5, "", "meta"])
def test_a_device_that_is_not_there_is_told(device):
    with pytest.raises(UserError, match=r"device is .*; it must be 'cpu' or 'cuda'"):
        score(EMBEDDINGS, LABELS, device=device)


@pytest.mark.parametrize(
    "queries", [QUERIES[1:], QUERIES.astype(int), np.flatnonzero(QUERIES), "query", [None] * 40]
)
def test_queries_that_are_no_mask_are_told(queries):
    sentence = "one bool for each of the 40 embeddings is needed"
    with pytest.raises(UserError, match=sentence):
        score(EMBEDDINGS, LABELS, queries_N=queries)
    with pytest.raises(UserError, match=sentence):
        neighbors(EMBEDDINGS, 1, queries)


def test_a_gallery_without_the_class_of_any_query_is_told_as_that():
    labels = np.repeat([0, 1], 20)
    with pytest.raises(UserError, match="None of the 20 queries has an item of its class among"):
        score(EMBEDDINGS, labels, queries_N=labels == 0)
