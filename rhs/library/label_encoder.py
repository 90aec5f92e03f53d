"""Labels of any kind of whole number -> class numbers 0 to C - 1."""

import torch
from torch import nn

from rhs.distributed import collectives
from rhs.errors import UserError


class LabelEncoder(nn.Module):
    """Gives each label a class number, the same on every rank.

    A label below C has its own value for a number. Any other, say a product's id, has the highest
    number that is free when it is first met. Which label has which number is kept with the loss's
    state.

    Args:
        num_classes: C.
        any_label: take labels of C and above; else they are refused.
    """

    label_C: torch.Tensor

    def __init__(self, num_classes: int, any_label: bool = True):
        super().__init__()
        self.num_classes, self.any_label = num_classes, any_label
        self.register_buffer("label_C", torch.full((num_classes,), -1))

    def forward(self, labels_b: torch.Tensor, learn: bool = True) -> torch.Tensor:
        """Class numbers [b] of this rank's labels; every rank calls it.

        Args:
            learn: remember new labels.

        Raises:
            UserError: a negative label, or one more than there are classes; on every rank.
        """
        labels_B = collectives.gather(labels_b, collectives.row_counts(labels_b))
        in_range_B = labels_B.clamp(0, self.num_classes - 1)
        own_B = (in_range_B == labels_B) & (self.label_C[in_range_B] == labels_B)
        if own_B.all():  # as in nearly every step: nothing more to look at
            return labels_b
        table_C = self._with(torch.unique(labels_B))
        if learn:
            self.label_C.copy_(table_C)
        sorted_C, number_C = table_C.sort()
        return number_C[torch.searchsorted(sorted_C, labels_b)]

    def _with(self, label_K: torch.Tensor) -> torch.Tensor:
        """The table [C] with these labels, ascending, in it."""
        if label_K[0] < 0:
            raise UserError(f"The batch has label {int(label_K[0])}; labels must be 0 or more.")
        table_C = self.label_C.clone()
        new_K = label_K[~torch.isin(label_K, table_C)]
        own_K = new_K[new_K < self.num_classes]
        own_K = own_K[table_C[own_K] == -1]
        table_C[own_K] = own_K
        others = new_K[~torch.isin(new_K, own_K)]
        if len(others) and not self.any_label:
            raise UserError(
                f"The batch has label {int(others[0])}; labels must be 0 to "
                f"{self.num_classes - 1}, the rows of class_values."
            )
        free = (table_C == -1).nonzero().flatten().flip(0)
        if len(others) > len(free):
            raise UserError(
                f"The batch has label {int(others[len(free)])}, but num_classes is "
                f"{self.num_classes}, and as many other labels have come before: num_classes must "
                "be the number of classes of the whole training set."
            )
        table_C[free[: len(others)]] = others
        return table_C
