"""NMI against its definition, scikit-learn and pytorch-metric-learning."""

from __future__ import annotations

from math import log

import faiss
import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from rhs.errors import UserError
from rhs.metrics import nmi as nmi_module
from rhs.metrics.cosine import unit_rows
from rhs.metrics.nmi import kmeans, nmi


def clustered(seed: int, classes: int = 12, per_class: int = 8, noise: float = 1.0, dim: int = 8):
    """Embeddings [N, D] around their classes' centers, and labels that are any integers."""
    random = np.random.default_rng(seed)
    names = random.permutation(1000)[:classes] - 300
    class_N = random.permutation(np.repeat(np.arange(classes), per_class))
    centers = random.normal(size=(classes, dim))
    return centers[class_N] + noise * random.normal(size=(len(class_N), dim)), names[class_N]


def reference(labels, found) -> float:
    """2 I / (H + H), summed cell by cell."""
    total = len(labels)

    def entropy(of) -> float:
        return -sum(n / total * log(n / total) for n in np.unique(of, return_counts=True)[1])

    shared = 0.0
    for label in set(labels):
        for cluster in set(found):
            both = ((labels == label) & (found == cluster)).mean()
            if both:
                shared += both * log(both / ((labels == label).mean() * (found == cluster).mean()))
    return 2 * shared / (entropy(labels) + entropy(found))


@pytest.mark.parametrize("noise", [0.3, 1.0, 5.0])
def test_nmi_equals_its_definition_and_scikit_learns(noise):
    embeddings, labels = clustered(0, noise=noise)
    made = nmi(embeddings, labels, seeds=3, seed=7)
    unit = unit_rows(embeddings)
    for seed, value in zip((7, 8, 9), made.by_seed, strict=True):
        found = kmeans(unit, 12, seed=seed, iterations=20)
        assert value == pytest.approx(reference(labels, found), abs=1e-12)
        assert value == pytest.approx(normalized_mutual_info_score(labels, found), abs=1e-12)
    assert made.value == pytest.approx(np.mean(made.by_seed), abs=1e-15)
    assert len(set(made.by_seed)) > 1 or noise < 1  # the seeds are not the same run


@pytest.mark.parametrize("seed", range(20))
def test_any_table_gives_scikit_learns_number(seed):
    random = np.random.default_rng(seed)
    classes, found = random.integers(1 + seed, size=(2, 50))
    _, class_N = np.unique(classes, return_inverse=True)
    expected = normalized_mutual_info_score(classes, found)
    assert nmi_module._nmi(class_N, found) == pytest.approx(expected, abs=1e-12)


def test_nmi_equals_pytorch_metric_learnings():
    torch = pytest.importorskip("torch")
    calculators = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    inference = pytest.importorskip("pytorch_metric_learning.utils.inference")
    embeddings, labels = clustered(1, classes=10, per_class=40)
    theirs = calculators.AccuracyCalculator(
        include=("NMI",),
        device=torch.device("cpu"),
        kmeans_func=inference.FaissKMeans(niter=20, seed=5),
    ).get_accuracy(unit_rows(embeddings), labels)
    assert nmi(embeddings, labels, seeds=1, seed=5).value == pytest.approx(theirs["NMI"], abs=1e-9)


def test_more_rows_than_faiss_would_take_are_all_used():
    """faiss samples 256 rows a centroid if not told: a mean of 257 or more would then differ."""
    random = np.random.default_rng(0)
    unit = unit_rows(random.normal(size=(2000, 3)))
    found = kmeans(unit, 2, seed=0, iterations=100)
    centers = np.stack([unit[found == k].mean(axis=0) for k in range(2)])
    nearest = ((unit[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == found).all()  # converged on all 2,000


def test_separate_classes_are_found_and_mixed_ones_are_not():
    embeddings, labels = clustered(2, classes=4, per_class=200, noise=0.01)
    assert max(nmi(embeddings, labels, seeds=5).by_seed) == pytest.approx(1.0)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert nmi(embeddings, shuffled, seeds=5).value < 0.03


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_on_every_call_and_number_of_threads(threads):
    embeddings, labels = clustered(3, classes=150, per_class=6, dim=40)
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(threads)
        made = nmi(embeddings, labels, seeds=2)
        faiss.omp_set_num_threads(1)
        assert made == nmi(embeddings.copy(), labels, seeds=2)
    finally:
        faiss.omp_set_num_threads(before)
    assert made != nmi(embeddings, labels, seeds=2, seed=10)


def test_neither_scale_nor_the_names_of_classes_matter():
    embeddings, labels = clustered(4)
    made = nmi(embeddings, labels)
    scales = 2.0 ** np.random.default_rng(0).integers(-20, 20, size=(len(labels), 1))
    assert nmi(embeddings * scales, labels * 7 - 10**12).by_seed == made.by_seed


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_embeddings_tell_nothing(value):
    made = nmi(np.full((60, 4), value), np.repeat(np.arange(20), 3))
    assert made.by_seed == (0.0,) * 5
    assert made.interval == (0.0, 0.0)


def test_fewer_points_than_classes_are_each_a_cluster(capfd):
    """Two places for four classes: k-means can do no better than those two."""
    places = np.repeat([[1.0, 0.0], [-0.0, 1.0]], 20, axis=0)
    places[-1, 0] = 0.0
    labels = np.repeat(np.arange(4), 10)
    assert nmi(places, labels).by_seed == pytest.approx((2 / 3,) * 5)  # 2 log 2 / (log 4 + log 2)
    assert capfd.readouterr() == ("", "")


def test_as_many_points_as_classes_are_each_a_cluster():
    """k-means may start from two copies of one point, and then lose another."""
    points = np.random.default_rng(0).normal(size=(15, 3)).repeat(4, axis=0)
    assert nmi(points, np.arange(60) // 4).by_seed == pytest.approx((1.0,) * 5)


def test_copies_and_few_rows_a_class_are_silent(capfd):
    """faiss warns below 39 rows a centroid, and refuses fewer rows than centroids."""
    random = np.random.default_rng(0)
    points = random.normal(size=(13, 4))[random.integers(13, size=60)]  # clusters stay empty
    labels = np.repeat(np.arange(12), 5)
    assert 0 < nmi(points, labels).value < 1
    alone = nmi(random.normal(size=(30, 4)), np.arange(30))  # a class each
    assert alone.value == pytest.approx(1.0)
    assert capfd.readouterr() == ("", "")


def test_one_class_is_one_cluster():
    made = nmi(np.random.default_rng(0).normal(size=(9, 3)), np.full(9, -1))
    assert (made.value, made.interval) == (1.0, (1.0, 1.0))


def test_a_draw_counts_a_class_as_often_as_it_was_drawn():
    random = np.random.default_rng(0)
    class_N, found = np.repeat(np.arange(6), 7), random.integers(5, size=42)
    weights = np.array([[2, 0, 1, 3, 0, 0], [1, 1, 1, 1, 1, 1]])
    made = nmi_module._weighted(nmi_module._table(class_N, found), weights)
    for row, value in zip(weights, made, strict=True):
        repeated = np.repeat(np.arange(42), row[class_N])
        expected = normalized_mutual_info_score(class_N[repeated], found[repeated])
        assert value == pytest.approx(expected, abs=1e-12)


def test_the_interval_holds_the_value_and_narrows_with_the_classes():
    widths = []
    for classes in (20, 320):
        made = nmi(*clustered(5, classes=classes, per_class=5, dim=16), seeds=2, iterations=5)
        low, high = made.interval
        assert 0 <= low < made.value < high <= 1
        widths.append(high - low)
    assert widths[0] / widths[1] > 3  # the root of 16, and more as NMI comes near 1
    assert nmi(*clustered(5), draws=0).interval is None
    few = nmi(*clustered(5, classes=2, noise=3.0))  # a draw of one class alone would tell nothing
    assert 0 < few.value < 1
    assert few.interval == pytest.approx((few.value, few.value))


def test_the_interval_is_as_wide_as_new_classes_would_vary():
    made = [nmi(*clustered(seed, classes=60), seeds=1, iterations=5) for seed in range(60)]
    spread = np.std([each.value for each in made])
    stated = np.mean([np.subtract(*each.interval[::-1]) for each in made]) / (2 * 1.96)
    assert 0.7 < stated / spread < 1.3
    center = np.mean([each.value for each in made])
    held = np.mean([each.interval[0] <= center <= each.interval[1] for each in made])
    assert held > 0.8  # draws that are not moved to the value hold it in less than 0.6


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"labels_N": np.zeros(3, dtype=int)}, r"\(3,\).*12 embeddings"),
        ({"seeds": 0}, "seeds is 0; it must be a whole number at least 1"),
        ({"iterations": 0}, "iterations is 0"),
        ({"draws": -1}, "draws is -1; .* at least 0"),
        ({"embeddings_ND": np.full((12, 2), np.nan)}, "row 0 .*NaN"),
        ({"embeddings_ND": np.ones(12)}, "matrix"),
    ],
)
def test_what_cannot_be_is_told(arguments, told):
    fitting = {"embeddings_ND": np.eye(12), "labels_N": np.repeat([0, 1], 6)}
    with pytest.raises(UserError, match=told):
        nmi(**(fitting | arguments))
