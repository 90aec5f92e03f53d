"""What holds for every file of conf/method/, also where points coincide or classes are alone."""

import pytest
import torch
from random_batches import CLASSES, DIM, embeddings, value_and_gradient
from tiny_project import METHODS, ROOT, prepared

from rhs.methods.losses.normalized_softmax import NormalizedSoftmax


def those(*words: str) -> list[str]:
    """The methods whose files have one of these words."""
    texts = {name: (ROOT / f"conf/method/{name}.yaml").read_text() for name in METHODS}
    return [name for name, text in texts.items() if any(word in text for word in words)]


def others(names: list[str]) -> list[str]:
    return [name for name in METHODS if name not in names]


AXES = those("IntraClass")  # whose variances are along axes, and of un-normalized embeddings
DRAWN = [*AXES, *those("random", "distance_weighted")]  # row by row, in the batch's order


@pytest.mark.parametrize("method", others(DRAWN))
def test_the_order_of_classes_in_the_batch_does_not_matter(method):
    """Nor how they are interleaved, as long as each class keeps its own order, hence its pairs."""
    x, labels = embeddings(per_class=4)
    random = torch.Generator().manual_seed(0)
    order = torch.rand(CLASSES, 4, generator=random).sort(1).values.flatten().argsort()
    one, other = prepared(method, CLASSES, DIM), prepared(method, CLASSES, DIM)
    for progress in (0.3, 0.6):
        loss, gradient, _ = value_and_gradient(one, x, labels, progress)
        shuffled = value_and_gradient(other, x[order], labels[order], progress)
        torch.testing.assert_close(shuffled[0], loss)
        torch.testing.assert_close(shuffled[1], gradient[order])
        x = x.roll(1, dims=1)


@pytest.mark.parametrize("per_class", [2, 4])
@pytest.mark.parametrize("method", others(AXES))
def test_a_turned_embedding_has_the_same_loss_and_the_turned_gradient(method, per_class):
    """Also at a class's first sight, where rounding must not choose between p and p'."""
    random = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=random).double())[0]
    seen, its = embeddings(per_class=3, seed=9)  # the training set
    one = prepared(method, CLASSES, DIM, samples=[(seen, its)])
    other = prepared(method, CLASSES, DIM, samples=[(seen @ turn, its)])
    for mine, turned in zip(one.modules(), other.modules(), strict=True):
        if isinstance(mine, NormalizedSoftmax):
            turned.signatures.weight.data = mine.signatures.weight.data @ turn
    for seed in range(2):
        x, labels = embeddings(per_class, seed)
        loss, gradient, _ = value_and_gradient(one, x, labels)
        turned = value_and_gradient(other, x @ turn, labels)
        torch.testing.assert_close(turned[0], loss)
        torch.testing.assert_close(turned[1], gradient @ turn)


@pytest.mark.parametrize("method", others([*AXES, *those("normalize: false")]))
def test_normalized_methods_do_not_see_lengths(method):
    x, labels = embeddings(per_class=4)
    lengths = torch.rand(len(x), 1, generator=torch.Generator().manual_seed(0)).double() + 0.5
    loss = value_and_gradient(prepared(method, CLASSES, DIM), x, labels)[0]
    stretched = value_and_gradient(prepared(method, CLASSES, DIM), x * lengths, labels)[0]
    torch.testing.assert_close(stretched, loss)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_along_the_gradient_lowers_the_loss(method):
    x, labels = embeddings(per_class=4)
    loss, gradient, _ = value_and_gradient(prepared(method, CLASSES, DIM), x, labels)
    step = 1e-3 / max(1.0, gradient.norm().item())
    after = value_and_gradient(prepared(method, CLASSES, DIM), x - step * gradient, labels)[0]
    assert after < loss


@pytest.mark.parametrize("method", METHODS)
def test_of_half_precision_embeddings_everything_is_computed_in_single(method):
    for half in (torch.bfloat16, torch.float16):
        x, labels = embeddings(per_class=4)
        x = x.to(half)
        made = prepared(method, CLASSES, DIM, torch.float32)
        expected, gradient, told = value_and_gradient(made, x.float(), labels)
        x.requires_grad_()
        made = prepared(method, CLASSES, DIM, torch.float32)
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=half):
            loss, diagnostics = made(x, labels, 0.6)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.item() == expected
        assert torch.equal(x.grad, gradient.to(half))
        assert diagnostics == told


@pytest.mark.parametrize("looking", ["eval", "no_grad", "inference_mode"])
@pytest.mark.parametrize("method", METHODS)
def test_a_look_changes_nothing_that_is_kept(method, looking):
    """In evaluation mode or without gradients, also at classes that were never seen."""
    made, twin = prepared(method, CLASSES, DIM), prepared(method, CLASSES, DIM)
    x, labels = embeddings(per_class=4)
    first = labels < CLASSES // 2
    for one in (made, twin):
        value_and_gradient(one, x[first], labels[first])
    before = {name: value.clone() for name, value in made.state_dict().items()}
    if looking == "eval":
        value_and_gradient(made.eval(), x, labels)
        made.train().zero_grad()
    else:
        with getattr(torch, looking)():
            assert torch.isfinite(made(x, labels, 0.6)[0])
    assert before.keys() == made.state_dict().keys()
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name]), name
    x = x.flip(0)
    seen, expected = (value_and_gradient(one, x, labels.flip(0)) for one in (made, twin))
    assert seen[0] == expected[0]
    assert torch.equal(seen[1], expected[1])


CASES = (
    "identical",
    "identical within classes",
    "zeros",
    "one zero",
    "opposite",
    "one class alone",
    "one sample alone in its class",
    "every sample alone",
    "anchor is center",
    "one pair",
    "two samples of two classes",
    "one sample",
)


def degenerate(case: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    x, labels = embeddings(per_class=4)
    if case == "identical":
        x = x[:1].repeat(len(x), 1)
    elif case == "identical within classes":
        x = x[::4].repeat_interleave(4, dim=0)
    elif case == "zeros":
        x = torch.zeros_like(x)
    elif case == "one zero":
        x[0] = 0
    elif case == "opposite":
        x = x[::2].repeat_interleave(2, dim=0)
        x[1::2] *= -1
    elif case == "one class alone":
        labels = torch.zeros_like(labels)
    elif case == "one sample alone in its class":
        labels = torch.cat([labels[:-4], torch.tensor([4, 4, 4, 5])])
    elif case == "every sample alone":
        x, labels = x[:CLASSES], labels[::4].clone()
    elif case == "one pair":
        x, labels = x[:2], labels[:2]
    elif case == "two samples of two classes":
        x, labels = x[3:5], labels[3:5]
    elif case == "one sample":
        x, labels = x[:1], labels[:1]
    return x.to(dtype), labels


def objective_for(method: str, case: str, dtype: torch.dtype):
    if case != "anchor is center":
        return prepared(method, CLASSES, DIM, dtype)
    x, labels = degenerate(case, dtype)
    first, its = x[::4], labels[::4]  # of each class: the anchor of its first pair
    made = prepared(method, CLASSES, DIM, dtype, samples=[(first, its)])
    for part in made.modules():
        if isinstance(part, NormalizedSoftmax):
            part.signatures.weight.data.copy_(first)
    return made


def flaws(method: str, case: str, dtype: torch.dtype) -> list[str]:
    """What is not finite in two batches; memories fill up meanwhile."""
    try:
        made = objective_for(method, case, dtype)
        found = {}
        for progress in (0.6, 1.0):
            x, labels = degenerate(case, dtype)
            loss, gradient, told = value_and_gradient(made, x, labels, progress)
            found |= {"loss": torch.tensor(loss), "gradient": gradient} | told
            found |= {f"gradient of {k}": p.grad.to_dense() for k, p in made.named_parameters()}
            found |= made.state_dict()
            bad = [name for name, value in found.items() if not torch.isfinite(value).all()]
            if bad:
                return [f"{case}, {dtype}, {progress}: {', '.join(bad)}"]
    except Exception as error:
        return [f"{case}, {dtype}: {type(error).__name__}: {error}"]
    return []


@pytest.mark.parametrize("method", METHODS)
def test_losses_and_gradients_are_finite_of_whatever_batch(method):
    found = [
        flaw
        for case in CASES
        for dtype in (torch.float32, torch.float64)
        for flaw in flaws(method, case, dtype)
    ]
    assert not found, "\n".join(found)
