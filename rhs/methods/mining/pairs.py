"""Disjoint pairs of one class, and the hardest negative between each two of them.

The pairs of a batch have up to four roles: `anchor`, `positive`, and the synthetic points made from
each of them, `synthetic_anchor` and `synthetic_positive`, all [N, D] with one pair a row.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from rhs.errors import UserError
from rhs.methods.diagnostics import hardness
from rhs.methods.interfaces import AnchorSimilarities, Batch, Generate, Miner, masked_mean
from rhs.methods.mining.class_indices import pair_up
from rhs.methods.mining.pair_points import ORIGINAL, SYNTHETIC, PairPoints
from rhs.methods.similarity import rowwise

ROLES = (*ORIGINAL, *SYNTHETIC)
POSITIVES = ("original", "hardest", "synthetic", "combined")
EVERY = tuple(itertools.product(ROLES, ROLES))


class PairMiner(Miner):
    """One row a pair: the anchor's positive, and its hardest negative in each other pair.

    Args:
        positives: what an anchor is compared with: the `original` positive, the `synthetic` one,
            the `hardest` (whichever is less similar), or the most similar of the same combinations
            as for negatives, `combined` (the released code of Symmetrical Synthesis; easier than
            the original where unit vectors are more than 90 degrees apart).
        negatives: pairs of roles, or `all` 16 of them; the similarity of pair i to pair j is the
            largest over them, of the first role's point in i to the second's in j.
        both_ends: add to each similarity that of the second role's point in i, as the angular loss
            wants: (u_i + v_i) . v_j for the roles (u, v).
    """

    def __init__(
        self,
        positives: str = "original",
        negatives: Sequence[Any] | str = (ORIGINAL,),
        both_ends: bool = False,
    ):
        if positives not in POSITIVES:
            raise UserError(
                f"mining.positives is {positives!r}; it must be one of {', '.join(POSITIVES)}."
            )
        if both_ends and positives == "combined":
            raise UserError(
                "mining.positives is 'combined', which with both_ends would compare the positive "
                "with itself: choose original, hardest or synthetic."
            )
        combinations = EVERY if negatives == "all" else _pairs(negatives)
        unknown = {role for pair in combinations for role in pair} - set(ROLES)
        if unknown or not combinations or any(len(pair) != 2 for pair in combinations):
            raise UserError(
                f"mining.negatives has {sorted(unknown) or 'no pair'}; "
                f"give pairs of {', '.join(ROLES)}, or all."
            )
        self.positives, self.combinations, self.both_ends = positives, combinations, both_ends
        only_originals = positives in ("original", "combined") and self.used <= set(ORIGINAL)
        self.uses_generator = not only_originals

    @property
    def used(self) -> set[str]:
        """The roles that negatives come from."""
        return set(itertools.chain(*self.combinations))

    def __call__(
        self, batch: Batch, generate: Generate | None, measure: str, with_plain: bool = False
    ) -> tuple[AnchorSimilarities, AnchorSimilarities | None]:
        """Rows of the pairs; with a generator and if asked, those of the originals alone too."""
        anchor_N, positive_N = pair_up(batch.labels_B)
        roles = PairPoints(batch, anchor_N, positive_N, measure, self.both_ends)
        labels_N = batch.labels_B[anchor_N]
        different_NN = labels_N[:, None] != labels_N[None, :]
        own_N1 = different_NN.new_ones(len(labels_N), 1)
        original_N = rowwise(roles.points["anchor"], roles.points["positive"], measure)
        if generate is not None:
            roles.add(generate, anchor_N, positive_N, both="synthetic_anchor" in self.used)
        hardest_NN, synthetic_NN = roles.hardest(self.combinations)
        synthetic_N = None if generate is None else roles.to_synthetic()
        positive_N = self._positives(original_N, synthetic_N, hardest_NN)
        rows = AnchorSimilarities(positive_N[:, None], own_N1, hardest_NN, different_NN, labels_N)
        if synthetic_N is None:
            return rows, None
        rows.diagnostics = roles.diagnostics | hardness(original_N - synthetic_N)
        if synthetic_NN is not None:
            wins_NN = synthetic_NN.to(original_N.dtype)
            rows.diagnostics["synthetic_negatives"] = masked_mean(wins_NN, different_NN)
        if not with_plain:
            return rows, None
        plain_NN = hardest_NN if self.combinations == (ORIGINAL,) else roles.similarity(ORIGINAL)
        return rows, AnchorSimilarities(
            original_N[:, None], own_N1, plain_NN, different_NN, labels_N
        )

    def _positives(
        self,
        original_N: torch.Tensor,
        synthetic_N: torch.Tensor | None,
        hardest_NN: torch.Tensor,
    ) -> torch.Tensor:
        if self.positives == "original":
            return original_N
        if self.positives == "combined":
            return hardest_NN.diagonal()
        assert synthetic_N is not None, "points were made"
        return synthetic_N if self.positives == "synthetic" else original_N.minimum(synthetic_N)


def _pairs(negatives: Any) -> Any:
    if not isinstance(negatives, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) for pair in negatives
    ):
        raise UserError(
            f"mining.negatives is {negatives!r}; give pairs of {', '.join(ROLES)}, or all."
        )
    return tuple(tuple(pair) for pair in negatives)
