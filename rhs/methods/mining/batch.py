"""Every sample an anchor, with positives and negatives chosen from the whole batch."""

from dataclasses import replace
from functools import partial

import torch

from rhs.errors import UserError
from rhs.methods import diagnostics
from rhs.methods.batch import AnchorRows, AnchorSimilarities, Batch
from rhs.methods.interfaces import Generate, Miner
from rhs.methods.mining import candidates
from rhs.methods.mining import negatives as negatives_module
from rhs.methods.mining.candidates import Candidates
from rhs.methods.mining.class_indices import members, same_class
from rhs.methods.mining.plan import Plan, random_place
from rhs.methods.similarity import matrix, rowwise
from rhs.methods.sums import Sums, sums_of_mean
from rhs.methods.tiles import WHOLE, Shares, rows_of

POSITIVES = ("all", "random", "easy", "hardest")
SHARED = ("all", "easy", "hardest")  # negatives that all positives of an anchor have in common
PER_POSITIVE = ("random", "semi_hard", "distance_weighted")
DRAWN = ("random", "distance_weighted")


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
        self,
        batch: Batch,
        generate: Generate | None,
        measure: str,
        with_plain: bool = False,
        shares: Shares = WHOLE,
    ) -> AnchorRows:
        """Rows of the batch; with a generator and if asked, those of the originals alone too."""
        size = len(batch.labels_B)
        plan = Plan(*same_class(batch.labels_B))
        if self.positives == "random":
            plan.at_B1 = random_place(plan.valid_BP, batch.x_BD)
        if generate is not None:
            pieces = shares.in_pieces(size, size)
            if self.synthetic_negatives or not pieces or generate.for_classes:
                self._make_points(plan, batch, generate, measure)
        self._draw(plan, batch, with_plain)
        columns = size + (0 if plan.points is None else len(plan.points.labels_M))
        return AnchorRows(
            size,
            columns,
            partial(self._rows, plan, batch, generate, (measure, with_plain)),
            have_partners=not self.per_positive and plan.member_BQ is None,
        )

    def _make_points(self, plan: Plan, batch: Batch, generate: Generate, measure: str) -> None:
        """Make the points of all rows."""
        partner_BP, valid_BP = plan.partner_BP, plan.valid_BP
        if self.positives != "all":
            if plan.at_B1 is None:
                score_BP = candidates.positive_similarities(batch, partner_BP, measure)
                plan.at_B1 = candidates.place(self._score(score_BP), valid_BP)
            partner_BP, valid_BP = (z.gather(1, plan.at_B1) for z in (partner_BP, valid_BP))
        plan.pair_N = valid_BP.nonzero(as_tuple=True)
        plan.points = points = generate(plan.pair_N[0], partner_BP[plan.pair_N])
        if points.anchor_M is None and len(points.labels_M):
            plan.member_BQ, plan.member_valid_BQ = members(points.labels_M, batch.labels_B)
            if self.positives == "random":
                either_BP = torch.cat([plan.valid_BP, plan.member_valid_BQ], dim=1)
                plan.extended_at_B1 = random_place(either_BP, batch.x_BD)

    def _draw(self, plan: Plan, batch: Batch, with_plain: bool) -> None:
        """The random numbers that negatives are drawn by: one for each positive."""
        if self.negatives not in DRAWN:
            return
        size, width = plan.partner_BP.shape if self.positives == "all" else (len(batch.x_BD), 1)
        more = 0
        if plan.member_BQ is not None and self.positives == "all":
            more = plan.member_BQ.shape[1]
        plan.noise_BP = negatives_module.uniform((size, width + more), batch.x_BD)
        if with_plain:
            plan.plain_noise_BP = negatives_module.uniform((size, width), batch.x_BD)

    def _rows(
        self,
        plan: Plan,
        batch: Batch,
        generate: Generate | None,
        options: tuple[str, bool],
        own: slice,
    ) -> tuple[AnchorSimilarities, AnchorSimilarities | None]:
        measure, with_plain = options
        originals = candidates.of_originals(
            batch, plan.partner_BP[own], plan.valid_BP[own], own, measure
        )
        chosen = self._choose(originals, plan.at_B1, own)
        if generate is None:
            return self._with_negatives(chosen, batch, measure, plan.noise_BP, own), None
        hard, measured = self._hard(plan, batch, generate, (originals, chosen), (own, measure))
        rows = self._with_negatives(hard, batch, measure, plan.noise_BP, own)
        rows.diagnostics = measured
        if not with_plain:
            return rows, None
        return rows, self._with_negatives(chosen, batch, measure, plan.plain_noise_BP, own)

    def _hard(
        self,
        plan: Plan,
        batch: Batch,
        generate: Generate,
        found: tuple[Candidates, Candidates],
        where: tuple[slice, str],
    ) -> tuple[Candidates, dict[str, Sums]]:
        """The candidates with what is generated, and what that did to them."""
        (originals, chosen), (own, measure) = found, where
        pairs, points = plan.pairs_and_points(chosen, generate, own)
        count = len(points.labels_M)
        measured = {k: sums_of_mean(v, count) for k, v in points.diagnostics.items()}
        made_RM = None
        if points.anchor_M is None or self.synthetic_negatives:
            made_RM = matrix(rows_of(batch.x_BD, own), points.x_MD, measure)
        if points.anchor_M is None:
            hard = originals
            if plan.member_BQ is not None and plan.member_valid_BQ is not None:
                assert made_RM is not None
                index_RQ, valid_RQ = plan.member_BQ[own], plan.member_valid_BQ[own]
                hard = candidates.with_positives(originals, made_RM, index_RQ, valid_RQ)
            measured |= candidates.easier(originals, hard)
            hard = self._choose(hard, plan.extended_at_B1, own)
        else:
            anchor_ND = rows_of(batch.x_BD, own)[pairs[0]]
            made_N = rowwise(anchor_ND, points.as_positives()[pairs[2]], measure)
            hard = self._hardened(chosen, pairs[:2], made_N)
            measured |= diagnostics.hardness(chosen.positive_RP[pairs[:2]] - made_N)
        if self.synthetic_negatives and count:
            assert made_RM is not None
            hard = candidates.with_negatives(hard, points, made_RM)
            measured |= candidates.wins(hard, chosen.negative_RC.shape[1])
        return hard, measured

    def _score(self, positive_RP: torch.Tensor) -> torch.Tensor:
        return positive_RP if self.positives == "easy" else -positive_RP

    def _choose(self, found: Candidates, at_B1: torch.Tensor | None, own: slice) -> Candidates:
        """Keep one positive of each sample, unless all are wanted."""
        if self.positives == "all":
            return found
        if at_B1 is not None:
            return candidates.chosen(found, at_B1[own])
        at_R1 = candidates.place(self._score(found.positive_RP.detach()), found.valid_RP)
        return candidates.chosen(found, at_R1)

    def _hardened(
        self, chosen: Candidates, pairs: tuple[torch.Tensor, ...], made_N: torch.Tensor
    ) -> Candidates:
        if self.synthetic == "hardest":
            made_N = torch.minimum(made_N, chosen.positive_RP[pairs])
        return replace(chosen, positive_RP=chosen.positive_RP.index_put(pairs, made_N))

    def _with_negatives(
        self,
        found: Candidates,
        batch: Batch,
        measure: str,
        noise_BP: torch.Tensor | None,
        own: slice,
    ) -> AnchorSimilarities:
        """Choose the negatives."""
        rows = AnchorSimilarities(
            found.positive_RP,
            found.valid_RP,
            found.negative_RC,
            found.different_RC,
            found.labels_R,
            found.partner_RP,
            anchor_R=torch.arange(len(batch.labels_B)).to(batch.labels_B)[own],
        )
        if self.negatives == "all":
            return rows
        with torch.no_grad():
            if self.negatives in SHARED:
                at_RN = negatives_module.extreme(rows, self.negatives)
            elif self.negatives == "semi_hard":
                at_RN = negatives_module.semi_hard(rows)
            else:
                assert noise_BP is not None
                dim = batch.x_BD.shape[1] if self.negatives == "distance_weighted" else None
                at_RN = negatives_module.drawn(rows, noise_BP[own], measure, dim)
        rows.negative_RC = rows.negative_RC.gather(1, at_RN)
        rows.has_negative_RC = rows.has_negative_RC.gather(1, at_RN)
        return candidates.flat(rows) if self.per_positive else rows
