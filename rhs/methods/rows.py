"""What mining hands to a loss: for each anchor the similarities of its positives and negatives."""

from dataclasses import dataclass, field

import torch

from rhs.methods.similarity import NOTHING

HARDER = 1e-5  # a smaller gain in similarity is rounding: a reflection gains exactly nothing


@dataclass
class Rows:
    """R anchors with up to P positives and C negatives each; what is masked out is not theirs.

    A similarity is a dot product or minus a distance (rhs.methods.similarity).

    Attributes:
        positive_RP, has_positive_RP: similarity to each positive, and which entries count.
        negative_RC, has_negative_RC: the same for negatives.
        labels_R: class of each anchor.
        partner_RP: the row whose anchor is that positive; None where a row stands for both ends of
            its pair.
        diagnostics: what generated points did to these rows.
    """

    positive_RP: torch.Tensor
    has_positive_RP: torch.Tensor
    negative_RC: torch.Tensor
    has_negative_RC: torch.Tensor
    labels_R: torch.Tensor
    partner_RP: torch.Tensor | None = None
    diagnostics: dict[str, torch.Tensor] = field(default_factory=dict)

    def negatives_or_nothing(self) -> torch.Tensor:
        """Negatives [R, C], the others so dissimilar that no exponential or maximum sees them."""
        return self.negative_RC.masked_fill(~self.has_negative_RC, NOTHING)

    def nearest_negative(self) -> torch.Tensor:
        """Similarity [R, 1] of the nearest negative; NOTHING where there is none."""
        if not self.negative_RC.shape[1]:
            return self.negative_RC.new_full((len(self.negative_RC), 1), NOTHING)
        return self.negatives_or_nothing().amax(1, keepdim=True)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the values where the mask is true; 0, with gradient 0, where it never is."""
    # where, not a product: a masked infinity times 0 would be NaN.
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)
