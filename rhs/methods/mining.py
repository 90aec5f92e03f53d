"""Which samples pair up, and which of several candidates is the positive and the negative.

The pairs of a batch have up to four roles: `anchor`, `positive`, and the synthetic points made from
each of them, `synthetic_anchor` and `synthetic_positive`, all [N, D] with one class a row.
"""

import functools
from dataclasses import dataclass

import torch

from rhs.errors import UserError

ROLES = ("anchor", "positive", "synthetic_anchor", "synthetic_positive")
POSITIVES = ("original", "hardest", "synthetic")


def pair_up(labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair the samples of each class, in batch order: first with second, third with fourth, …

    The last sample of a class of odd size is paired with the one before it, so that none is left
    out; a sample alone in its class has no pair.

    Returns:
        (anchor [N], positive [N]): rows of the batch.
    """
    order_B = torch.argsort(labels_B, stable=True)
    sorted_B = labels_B[order_B]
    position_B = torch.arange(len(labels_B), device=labels_B.device)
    first_B = torch.ones_like(sorted_B, dtype=torch.bool)
    first_B[1:] = sorted_B[1:] != sorted_B[:-1]
    start_B = torch.cummax(torch.where(first_B, position_B, 0), dim=0).values
    even_B = (position_B - start_B) % 2 == 0
    last_B = torch.ones_like(first_B)
    last_B[:-1] = first_B[1:]
    whole_B = even_B & ~last_B
    odd_B = even_B & last_B & ~first_B
    anchor_N = torch.cat([position_B[whole_B], position_B[odd_B]])
    positive_N = torch.cat([position_B[whole_B] + 1, position_B[odd_B] - 1])
    return order_B[anchor_N], order_B[positive_N]


@dataclass
class PairMining:
    """The hardest positive of each anchor and the hardest negative between each two pairs.

    Args:
        positives: what an anchor is compared with: the `original` positive, the `synthetic` one, or
            the `hardest`, whichever is less similar.
        negatives: pairs of roles; the similarity of pair i to pair j is the largest over them.
    """

    positives: str = "original"
    negatives: tuple[tuple[str, str], ...] = (("anchor", "positive"),)

    def __post_init__(self):
        if self.positives not in POSITIVES:
            raise UserError(
                f"mining.positives is {self.positives!r}; it must be one of {', '.join(POSITIVES)}."
            )
        unknown = {role for pair in self.negatives for role in pair} - set(ROLES)
        if unknown or not self.negatives:
            raise UserError(
                f"mining.negatives has {sorted(unknown) or 'no pair'}; "
                f"give pairs of {', '.join(ROLES)}."
            )

    def __call__(self, points: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Similarities of the chosen positives [N] and of the hardest negatives [N, N].

        Similarity is the dot product. The negatives' diagonal, and pairs of one class, are the
        loss's to mask.
        """
        positive_N = (points["anchor"] * points["positive"]).sum(1)
        if self.positives != "original":
            synthetic_N = (points["anchor"] * points["synthetic_positive"]).sum(1)
            positive_N = (
                torch.minimum(positive_N, synthetic_N)
                if self.positives == "hardest"
                else synthetic_N
            )
        candidates = [points[row] @ points[column].T for row, column in self.negatives]
        return positive_N, functools.reduce(torch.maximum, candidates)
