"""Any loss of pytorch-metric-learning, on the global batch."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from rhs.errors import UserError, check_number
from rhs.methods.interfaces import LabelLoss
from rhs.methods.objective import Objective

# What the library calls the embedding's dimension.
DIMENSION = ("embedding_size", "descriptors_dim")
# Of its losses, those that are no loss of embeddings and labels.
UNFIT = dict.fromkeys(("SelfSupervisedLoss", "VICRegLoss", "ManifoldLoss"), "takes no labels") | (
    dict.fromkeys(
        ("BaseMetricLossFunction", "BaseLossWrapper", "GenericPairLoss"), "is what losses inherit"
    )
)
# Numbers of earlier batches that no checkpoint would hold.
KEPT = {"queue_idx": "a queue of earlier batches", "hist_": "a histogram of earlier batches"}


def pml_objective(
    loss: Any, miner: Any = None, normalize: bool = False, lr_factor: float = 1.0
) -> Objective:
    """The method of one of the library's losses; the arguments as for `PMLLoss`."""
    return Objective(PMLLoss(loss, miner, lr_factor), normalize=normalize)


class PMLLoss(nn.Module, LabelLoss):
    """A loss called as `loss(embeddings, labels)`, or `loss(embeddings, labels, pairs)`.

    The objective gathers the embeddings of all ranks in rank order, so the value and the gradients
    are those of one process. What the library's own wrapper returns is the value times the world
    size, and its memory-efficient mode has other gradients.

    Args:
        loss: the loss; or its class with its settings (`_partial_: true`), and the number of
            classes and the embedding's dimension are filled in where it asks for them. So it is
            with each of the losses that another one is made of.
        miner: one of the library's miners, or None.
        lr_factor: how many times as fast as the embedding head the loss's own parameters learn
            (proxies, class weights).

    Raises:
        UserError: a factor that is not above 0.
    """

    def __init__(self, loss: Any, miner: Any = None, lr_factor: float = 1.0):
        super().__init__()
        check_number("lr_factor of the loss", lr_factor, above=0)
        self.recipe, self.miner, self.lr_factor = loss, miner, lr_factor

    def prepare(self, num_classes: int, dim: int) -> None:
        """Build the loss, which may hold a weight for each class."""
        known = {"num_classes": num_classes} | dict.fromkeys(DIMENSION, dim)
        self.loss = _complete(self.recipe, known)
        for part in self.loss.modules():
            name = type(part).__name__
            part.lr_factor = self.lr_factor  # type: ignore[assignment]
            for attribute, what in KEPT.items():
                if hasattr(part, attribute):
                    raise UserError(
                        f"{name} keeps {what} that its state does not hold, so that a resumed run "
                        "would differ: choose another loss."
                    )

    def forward(self, x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar."""
        if self.miner is None:
            return self.loss(x_BD, labels_B)
        return self.loss(x_BD, labels_B, self.miner(x_BD.detach(), labels_B))


def _complete(recipe: Any, known: Mapping[str, int]) -> Any:
    """Call what is still to be called, with what it asks for of `known` and was not given."""
    if isinstance(recipe, list):
        return [_complete(part, known) for part in recipe]
    if isinstance(recipe, dict):
        return {key: _complete(part, known) for key, part in recipe.items()}
    if not isinstance(recipe, functools.partial):
        return recipe
    if fault := UNFIT.get(recipe.func.__name__):
        raise UserError(f"{recipe.func.__name__} {fault}: choose a loss of embeddings and labels.")
    given = {key: _complete(value, known) for key, value in recipe.keywords.items()}
    asked = _asked_for(recipe.func)
    return recipe.func(**given, **{k: v for k, v in known.items() if k in asked and k not in given})


def _asked_for(kind: Callable) -> set[str]:
    """Names of the arguments it takes: of a class also those that it hands on to its bases.

    As long as a constructor takes `**kwargs`, what it does not name itself is the next one's.
    """
    takers: list[Callable] = [kind]
    if inspect.isclass(kind):
        takers = [vars(c)["__init__"] for c in inspect.getmro(kind) if "__init__" in vars(c)]
    names: set[str] = set()
    for taker in takers:
        parameters = inspect.signature(taker).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        if all(p.kind != p.VAR_KEYWORD for p in parameters):
            break
    return names
