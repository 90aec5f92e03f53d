"""Any loss of pytorch-metric-learning, on the global batch."""

import inspect

import torch
from torch import nn

from rhs.errors import UserError
from rhs.methods.objective import Objective


def of_loss(loss, miner=None, normalize: bool = False) -> Objective:
    """The method of one of the library's losses; the arguments as for `External`."""
    return Objective(External(loss, miner), normalize=normalize)


class External(nn.Module):
    """A loss called as `loss(embeddings, labels)`, or `loss(embeddings, labels, pairs)`.

    The objective gathers the embeddings of all ranks in rank order, so the value and the gradients
    are those of one process. What the library's own wrapper returns is the value times the world
    size, and its memory-efficient mode has other gradients.

    Args:
        loss: the loss; or its class with its settings (`_partial_: true`), and the number of
            classes and the embedding's dimension are filled in where it asks for them.
        miner: one of the library's miners, or None.
    """

    takes_labels = True

    def __init__(self, loss, miner=None):
        super().__init__()
        self.recipe, self.miner = loss, miner

    def prepare(self, num_classes: int, dim: int) -> None:
        """Build the loss, which may hold a weight for each class."""
        self.loss = self._complete(num_classes, dim)
        if any(hasattr(part, "queue_idx") for part in self.loss.modules()):
            raise UserError(
                f"{type(self.loss).__name__} keeps a queue whose position its state does not "
                "hold, so that a resumed run would differ: choose another loss."
            )

    def _complete(self, num_classes: int, dim: int) -> nn.Module:
        if isinstance(self.recipe, nn.Module):
            return self.recipe
        known = {"num_classes": num_classes, "embedding_size": dim}
        signature = inspect.signature(self.recipe.func)
        given = self.recipe.keywords
        missing = {k: v for k, v in known.items() if k in signature.parameters and k not in given}
        return self.recipe(**missing)

    def forward(self, x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar."""
        if self.miner is None:
            return self.loss(x_BD, labels_B)
        return self.loss(x_BD, labels_B, self.miner(x_BD.detach(), labels_B))
