"""Every sample an anchor, with positives and negatives chosen from the whole batch."""

from dataclasses import dataclass, replace

import torch

from rhs.errors import UserError
from rhs.methods import diagnostics
from rhs.methods.interfaces import (
    HARDER,
    AnchorSimilarities,
    Batch,
    Generate,
    Miner,
    SyntheticPoints,
    masked_mean,
)
from rhs.methods.mining import negatives as negatives_module
from rhs.methods.mining.class_indices import members, same_class
from rhs.methods.similarity import NO_SIMILARITY, matrix, rowwise

POSITIVES = ("all", "random", "easy", "hardest")
SHARED = ("all", "easy", "hardest")  # negatives that all positives of an anchor have in common
PER_POSITIVE = ("random", "semi_hard", "distance_weighted")


@dataclass
class _Candidates:
    """The similarities [B, P] and [B, C] that each sample may choose from, and which are there."""

    positive_BP: torch.Tensor
    valid_BP: torch.Tensor
    partner_BP: torch.Tensor | None
    negative_BC: torch.Tensor
    different_BC: torch.Tensor
    labels_B: torch.Tensor


class BatchMiner(Miner):
    """One row a sample; or one for each of its positives, where each has a negative of its own.

    Args:
        positives: `all` of an anchor's class, a `random` one, the `easy` one (nearest) or the
            `hardest` (farthest).
        negatives: `all` of other classes, the `easy` one (farthest) or the `hardest` (nearest); or,
            for each positive, a `random` one, the nearest that is farther than the positive
            (`semi_hard`; the farthest of all where none is), or one drawn against the density of
            distances on the sphere (`distance_weighted`).
        synthetic: with a generator that makes points for pairs, what takes a chosen positive's
            place: the `hardest` of the two, or the `synthetic` one. Points made for a whole class
            are further candidates, those made from the anchor itself too.
        synthetic_negatives: generated points are negatives of other classes' anchors too.

    Sources: easy positives: Levi et al., ICCV 2021; semi-hard: Schroff et al., CVPR 2015;
    hardest: Hermans et al., 2017; distance-weighted: Wu et al., ICCV 2017.
    """

    def __init__(
        self,
        positives: str = "all",
        negatives: str = "all",
        synthetic: str = "hardest",
        synthetic_negatives: bool = True,
    ):
        for name, value, known in (
            ("positives", positives, POSITIVES),
            ("negatives", negatives, (*SHARED, *PER_POSITIVE)),
            ("synthetic", synthetic, ("hardest", "synthetic")),
        ):
            if value not in known:
                raise UserError(
                    f"mining.{name} is {value!r}; it must be one of {', '.join(known)}."
                )
        self.positives, self.negatives = positives, negatives
        self.synthetic, self.synthetic_negatives = synthetic, synthetic_negatives
        self.per_positive = negatives in PER_POSITIVE and positives == "all"
        self.needs_unit_length = negatives == "distance_weighted"

    def __call__(
        self, batch: Batch, generate: Generate | None, measure: str, with_plain: bool = False
    ) -> tuple[AnchorSimilarities, AnchorSimilarities | None]:
        """Rows of the batch; with a generator and if asked, those of the originals alone too."""
        originals = _originals(batch, measure)
        chosen = self._choose(originals)
        if generate is None:
            return self._rows(chosen, batch, measure), None
        assert chosen.partner_BP is not None
        pairs = chosen.valid_BP.nonzero(as_tuple=True)
        points = generate(pairs[0], chosen.partner_BP[pairs])
        measured = points.diagnostics
        made_BM = None
        if points.anchor_M is None or self.synthetic_negatives:
            made_BM = matrix(batch.x_BD, points.x_MD, measure)
        if points.anchor_M is None:
            assert made_BM is not None
            hard = _extended(originals, points, made_BM)
            measured |= _easier(originals, hard)
            hard = self._choose(hard)
        else:
            made_N = rowwise(batch.x_BD[pairs[0]], points.as_positives(), measure)
            hard = self._hardened(chosen, pairs, made_N)
            measured |= diagnostics.hardness(chosen.positive_BP[pairs] - made_N)
        if self.synthetic_negatives and len(points.labels_M):
            assert made_BM is not None
            hard = _with_negatives(hard, points, made_BM)
            measured |= _wins(hard, chosen.negative_BC.shape[1])
        rows = self._rows(hard, batch, measure)
        rows.diagnostics = measured
        return rows, self._rows(chosen, batch, measure) if with_plain else None

    def _choose(self, candidates: _Candidates) -> _Candidates:
        """Keep one positive of each sample, unless all are wanted."""
        if self.positives == "all":
            return candidates
        positive_BP, valid_BP = candidates.positive_BP, candidates.valid_BP
        with torch.no_grad():
            if self.positives == "random":
                score_BP = negatives_module.uniform_like(positive_BP)
            else:
                score_BP = positive_BP if self.positives == "easy" else -positive_BP
            at_B1 = score_BP.masked_fill(~valid_BP, 2 * NO_SIMILARITY).argmax(1, keepdim=True)
        partner_BP = candidates.partner_BP
        return replace(
            candidates,
            positive_BP=positive_BP.gather(1, at_B1),
            valid_BP=valid_BP.gather(1, at_B1),
            partner_BP=None if partner_BP is None else partner_BP.gather(1, at_B1),
        )

    def _hardened(
        self, chosen: _Candidates, pairs: tuple[torch.Tensor, ...], made_N: torch.Tensor
    ) -> _Candidates:
        if self.synthetic == "hardest":
            made_N = torch.minimum(made_N, chosen.positive_BP[pairs])
        return replace(chosen, positive_BP=chosen.positive_BP.index_put(pairs, made_N))

    def _rows(self, kept: _Candidates, batch: Batch, measure: str) -> AnchorSimilarities:
        """Choose the negatives."""
        rows = AnchorSimilarities(
            kept.positive_BP,
            kept.valid_BP,
            kept.negative_BC,
            kept.different_BC,
            kept.labels_B,
            kept.partner_BP,
        )
        if self.negatives == "all":
            return rows
        with torch.no_grad():
            if self.negatives in SHARED:
                at_BN = negatives_module.extreme(rows, self.negatives)
            elif self.negatives == "semi_hard":
                at_BN = negatives_module.semi_hard(rows)
            else:
                weighted = self.negatives == "distance_weighted"
                at_BN = negatives_module.drawn(
                    rows, measure, batch.x_BD.shape[1] if weighted else None
                )
        rows.negative_RC = rows.negative_RC.gather(1, at_BN)
        rows.has_negative_RC = rows.has_negative_RC.gather(1, at_BN)
        return _flat(rows) if self.per_positive else rows


def _originals(batch: Batch, measure: str) -> _Candidates:
    similarity_BB = matrix(batch.x_BD, batch.x_BD, measure)
    index_BP, valid_BP = same_class(batch.labels_B)
    different_BB = batch.labels_B[:, None] != batch.labels_B[None, :]
    return _Candidates(
        similarity_BB.gather(1, index_BP),
        valid_BP,
        index_BP,
        similarity_BB,
        different_BB,
        batch.labels_B,
    )


def _extended(
    originals: _Candidates, points: SyntheticPoints, made_BM: torch.Tensor
) -> _Candidates:
    """Points made for a class are further positives of each of its samples that has one."""
    if not len(points.labels_M):
        return originals
    index_BQ, valid_BQ = members(points.labels_M, originals.labels_B)
    made_BQ = made_BM.gather(1, index_BQ)
    return replace(
        originals,
        positive_BP=torch.cat([originals.positive_BP, made_BQ], dim=1),
        valid_BP=torch.cat([originals.valid_BP, valid_BQ], dim=1),
        partner_BP=None,
    )


def _with_negatives(
    kept: _Candidates, points: SyntheticPoints, made_BM: torch.Tensor
) -> _Candidates:
    other_BM = kept.labels_B[:, None] != points.labels_M[None, :]
    return replace(
        kept,
        negative_BC=torch.cat([kept.negative_BC, made_BM], dim=1),
        different_BC=torch.cat([kept.different_BC, other_BM], dim=1),
    )


def _flat(rows: AnchorSimilarities) -> AnchorSimilarities:
    """A row for each positive, with the negative in the same column."""
    there = rows.has_positive_RP.nonzero(as_tuple=True)

    def column(values: torch.Tensor) -> torch.Tensor:
        return values[there][:, None]

    return AnchorSimilarities(
        column(rows.positive_RP),
        column(rows.has_positive_RP),
        column(rows.negative_RC),
        column(rows.has_negative_RC),
        rows.labels_R[there[0]],
    )


@torch.no_grad()
def _easier(originals: _Candidates, extended: _Candidates) -> dict[str, torch.Tensor]:
    """How much less similar the hardest positive is with the generated points than without."""

    def least(c: _Candidates) -> torch.Tensor:
        return c.positive_BP.masked_fill(~c.valid_BP, -NO_SIMILARITY).amin(1)

    some_B = originals.valid_BP.any(1)
    gained_B = least(originals) - least(extended)
    return diagnostics.hardness(gained_B, some_B)


@torch.no_grad()
def _wins(hard: _Candidates, originals: int) -> dict[str, torch.Tensor]:
    """The share of anchors whose nearest negative is a generated point."""
    negative_BC = hard.negative_BC.masked_fill(~hard.different_BC, NO_SIMILARITY)
    best_B = negative_BC[:, :originals].amax(1)
    wins_B = (negative_BC[:, originals:].amax(1) > best_B + HARDER).to(best_B.dtype)
    return {"synthetic_negatives": masked_mean(wins_B, hard.different_BC.any(1))}
