"""The similarities that each anchor of a batch may choose its positives from, and what is added."""

from dataclasses import dataclass, replace

import torch

from rhs.methods import diagnostics
from rhs.methods.batch import HARDER, AnchorSimilarities, Batch, SyntheticPoints
from rhs.methods.similarity import NO_SIMILARITY, matrix, rowwise
from rhs.methods.sums import Sums, masked_sums
from rhs.methods.tiles import rows_of

BLOCK = 2**22  # numbers of embeddings that are compared at a time


@dataclass
class Candidates:
    """Of R anchors the similarities [R, P] and [R, C] to choose from, and which count."""

    positive_RP: torch.Tensor
    valid_RP: torch.Tensor
    partner_RP: torch.Tensor | None
    negative_RC: torch.Tensor
    different_RC: torch.Tensor
    labels_R: torch.Tensor


def of_originals(
    batch: Batch, partner_RP: torch.Tensor, valid_RP: torch.Tensor, own: slice, measure: str
) -> Candidates:
    """Those of some rows of the batch, without synthetic points."""
    similarity_RB = matrix(rows_of(batch.x_BD, own), batch.x_BD, measure)
    labels_R = batch.labels_B[own]
    return Candidates(
        similarity_RB.gather(1, partner_RP),
        valid_RP,
        partner_RP,
        similarity_RB,
        labels_R[:, None] != batch.labels_B[None, :],
        labels_R,
    )


@torch.no_grad()
def place(score_RP: torch.Tensor, valid_RP: torch.Tensor) -> torch.Tensor:
    """The place [R, 1] of the largest score that counts."""
    return score_RP.masked_fill(~valid_RP, 2 * NO_SIMILARITY).argmax(1, keepdim=True)


def chosen(candidates: Candidates, at_R1: torch.Tensor) -> Candidates:
    """One positive of each anchor."""
    partner_RP = candidates.partner_RP
    return replace(
        candidates,
        positive_RP=candidates.positive_RP.gather(1, at_R1),
        valid_RP=candidates.valid_RP.gather(1, at_R1),
        partner_RP=None if partner_RP is None else partner_RP.gather(1, at_R1),
    )


@torch.no_grad()
def positive_similarities(batch: Batch, partner_BP: torch.Tensor, measure: str) -> torch.Tensor:
    """Of all rows to those of their class [B, P], without a matrix of the batch."""
    step = max(1, BLOCK // max(1, partner_BP.shape[1] * batch.x_BD.shape[1]))
    pieces = zip(batch.x_BD.split(step), partner_BP.split(step), strict=True)
    parts = [rowwise(x_RD[:, None], batch.x_BD[at_RP], measure) for x_RD, at_RP in pieces]
    return torch.cat(parts) if parts else partner_BP.to(batch.x_BD.dtype)


def with_positives(
    originals: Candidates, made_RM: torch.Tensor, index_RQ: torch.Tensor, valid_RQ: torch.Tensor
) -> Candidates:
    """Points made for a class are further positives of each of its samples that has one."""
    return replace(
        originals,
        positive_RP=torch.cat([originals.positive_RP, made_RM.gather(1, index_RQ)], dim=1),
        valid_RP=torch.cat([originals.valid_RP, valid_RQ], dim=1),
        partner_RP=None,
    )


def with_negatives(
    candidates: Candidates, points: SyntheticPoints, made_RM: torch.Tensor
) -> Candidates:
    """Points are negatives of other classes' anchors too."""
    other_RM = candidates.labels_R[:, None] != points.labels_M[None, :]
    return replace(
        candidates,
        negative_RC=torch.cat([candidates.negative_RC, made_RM], dim=1),
        different_RC=torch.cat([candidates.different_RC, other_RM], dim=1),
    )


def flat(rows: AnchorSimilarities) -> AnchorSimilarities:
    """A row for each positive, with the negative in the same column."""
    at = rows.has_positive_RP.nonzero(as_tuple=True)

    def column(values: torch.Tensor) -> torch.Tensor:
        return values[at][:, None]

    return AnchorSimilarities(
        column(rows.positive_RP),
        column(rows.has_positive_RP),
        column(rows.negative_RC),
        column(rows.has_negative_RC),
        rows.labels_R[at[0]],
        anchor_R=None if rows.anchor_R is None else rows.anchor_R[at[0]],
    )


@torch.no_grad()
def easier(originals: Candidates, extended: Candidates) -> dict[str, Sums]:
    """How much less similar the hardest positive is with the generated points than without."""

    def least(c: Candidates) -> torch.Tensor:
        return c.positive_RP.masked_fill(~c.valid_RP, -NO_SIMILARITY).amin(1)

    gained_R = least(originals) - least(extended)
    return diagnostics.hardness(gained_R, originals.valid_RP.any(1))


@torch.no_grad()
def wins(hard: Candidates, originals: int) -> dict[str, Sums]:
    """The share of anchors whose nearest negative is a generated point."""
    negative_RC = hard.negative_RC.masked_fill(~hard.different_RC, NO_SIMILARITY)
    best_R = negative_RC[:, :originals].amax(1)
    wins_R = (negative_RC[:, originals:].amax(1) > best_R + HARDER).to(best_R.dtype)
    return {"synthetic_negatives": masked_sums(wins_R, hard.different_RC.any(1))}
