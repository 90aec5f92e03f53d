"""Disjoint pairs of one class, and the hardest negative between each two of them.

The pairs of a batch have up to four roles: `anchor`, `positive`, and the synthetic points made from
each of them, `synthetic_anchor` and `synthetic_positive`, all [N, D] with one pair a row.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from rhs.errors import UserError
from rhs.methods.batch import AnchorRows, AnchorSimilarities, Batch, SyntheticPoints
from rhs.methods.diagnostics import hardness
from rhs.methods.interfaces import Generate, Miner
from rhs.methods.mining.class_indices import pair_up
from rhs.methods.mining.pair_points import ORIGINAL, SYNTHETIC, PairPoints
from rhs.methods.similarity import rowwise
from rhs.methods.sums import Sums, masked_sums
from rhs.methods.tiles import WHOLE, Shares, rows_of

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
        self,
        batch: Batch,
        generate: Generate | None,
        measure: str,
        with_plain: bool = False,
        shares: Shares = WHOLE,
    ) -> AnchorRows:
        """Rows of the pairs; with a generator and if asked, those of the originals alone too."""
        anchor_N, positive_N = pair_up(batch.labels_B)
        points = PairPoints(batch, anchor_N, positive_N, measure, self.both_ends)
        many = shares.in_pieces(len(anchor_N), len(anchor_N))
        made = None
        if generate is not None and not (many and self.used <= set(ORIGINAL)):
            both = "synthetic_anchor" in self.used
            made = points.add(generate, anchor_N, positive_N, both)

        def rows(own: slice) -> tuple[AnchorSimilarities, AnchorSimilarities | None]:
            some = made
            if generate is not None and made is None:
                some = generate(anchor_N[own], positive_N[own])
            found = self._rows(points, own, some, (made is not None, with_plain))
            for each in found:
                if each is not None:
                    each.anchor_R = anchor_N[own]
            return found

        return AnchorRows(len(anchor_N), len(anchor_N), rows)

    def _rows(
        self,
        points: PairPoints,
        own: slice,
        made: SyntheticPoints | None,
        options: tuple[bool, bool],
    ) -> tuple[AnchorSimilarities, AnchorSimilarities | None]:
        of_all, with_plain = options
        labels_N = points.labels_N
        different_RN = labels_N[own, None] != labels_N[None, :]
        own_R1 = different_RN.new_ones(len(different_RN), 1)
        anchor_RD, positive_RD = (rows_of(points.points[role], own) for role in ORIGINAL)
        original_R = rowwise(anchor_RD, positive_RD, points.measure)
        hardest_RN, synthetic_RN = points.hardest(self.combinations, own)
        synthetic_R: torch.Tensor | None = None
        measured: dict[str, Sums] = {}
        if made is not None:
            synthetic_R, measured = points.to_synthetic(made, own, of_all)
        positive_R = self._positives(original_R, synthetic_R, hardest_RN, own)
        labels_R = labels_N[own]
        rows = AnchorSimilarities(positive_R[:, None], own_R1, hardest_RN, different_RN, labels_R)
        if synthetic_R is None:
            return rows, None
        rows.diagnostics = measured | hardness(original_R - synthetic_R)
        if synthetic_RN is not None:
            wins_RN = synthetic_RN.to(original_R.dtype)
            rows.diagnostics["synthetic_negatives"] = masked_sums(wins_RN, different_RN)
        if not with_plain:
            return rows, None
        only = self.combinations == (ORIGINAL,)
        plain_RN = hardest_RN if only else points.similarity(ORIGINAL, own)
        return rows, AnchorSimilarities(
            original_R[:, None], own_R1, plain_RN, different_RN, labels_R
        )

    def _positives(
        self,
        original_R: torch.Tensor,
        synthetic_R: torch.Tensor | None,
        hardest_RN: torch.Tensor,
        own: slice,
    ) -> torch.Tensor:
        if self.positives == "original":
            return original_R
        if self.positives == "combined":
            return hardest_RN.diagonal(own.start or 0)
        assert synthetic_R is not None, "points were made"
        return synthetic_R if self.positives == "synthetic" else original_R.minimum(synthetic_R)


def _pairs(negatives: Any) -> Any:
    if not isinstance(negatives, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) for pair in negatives
    ):
        raise UserError(
            f"mining.negatives is {negatives!r}; give pairs of {', '.join(ROLES)}, or all."
        )
    return tuple(tuple(pair) for pair in negatives)
