"""The up to four points of each pair, and the similarities between them over all pairs."""

import functools

import torch

from rhs.methods.batch import Batch, SyntheticPoints
from rhs.methods.interfaces import Generate
from rhs.methods.ops.max_similarity import A, P, PointShares, largest
from rhs.methods.similarity import from_squared, matrix, rowwise
from rhs.methods.sums import Sums, sums_of_mean
from rhs.methods.tiles import rows_of

ORIGINAL = ("anchor", "positive")
SYNTHETIC = ("synthetic_positive", "synthetic_anchor")
MADE_OF = {"anchor": (A,), "positive": (P,), **dict.fromkeys(SYNTHETIC, (A, P))}
Pair = tuple[str, str]


class PairPoints:
    """The points of each role [N, D], one pair a row.

    Args:
        both_ends: similarities are (u_i + v_i) . v_j for the roles (u, v), not u_i . v_j.
    """

    def __init__(
        self,
        batch: Batch,
        anchor_N: torch.Tensor,
        positive_N: torch.Tensor,
        measure: str,
        both_ends: bool,
    ):
        self.measure, self.both_ends = measure, both_ends
        self.labels_N = batch.labels_B[anchor_N]
        rows = dict(zip(ORIGINAL, (anchor_N, positive_N), strict=True))
        self.points = {role: batch.x_BD.index_select(0, row_N) for role, row_N in rows.items()}
        # The shares [2, N] of anchor and positive in each point, where it is a sum of the two.
        one_N = torch.ones_like(self.points["anchor"][:, 0])
        shares = [one_N, torch.zeros_like(one_N)]
        self.shares = {"anchor": torch.stack(shares), "positive": torch.stack(shares[::-1])}

    def add(
        self,
        generate: Generate,
        anchor_N: torch.Tensor,
        positive_N: torch.Tensor,
        both: bool,
    ) -> SyntheticPoints:
        """Make the synthetic points of all pairs: from the positives, if asked from the anchors
        too."""
        ends = ((anchor_N, positive_N), (positive_N, anchor_N))
        pairs = [torch.cat(rows) for rows in zip(*ends, strict=True)] if both else ends[0]
        made, n = generate(*pairs), len(anchor_N)
        for i, role in enumerate(SYNTHETIC[: 1 + both]):
            self.points[role] = made.x_MD[i * n : (i + 1) * n]
            if made.weights_M2 is not None:
                shares_2N = made.weights_M2[i * n : (i + 1) * n].T
                self.shares[role] = shares_2N if i == 0 else shares_2N.flip(0)
        return made

    def to_synthetic(
        self, made: SyntheticPoints, own: slice, of_all: bool
    ) -> tuple[torch.Tensor, dict[str, Sums]]:
        """Similarity [R] of the wanted anchors to the points made to take their positives' places;
        and what is worth knowing about these points.

        Args:
            of_all: the points are those of all pairs, not of the wanted ones alone.
        """
        anchor_RD = rows_of(self.points["anchor"], own)
        rival_MD = made.as_positives()[: len(self.points["anchor"])]
        rival_RD = rows_of(rival_MD, own) if of_all else rival_MD
        count = len(made.labels_M)
        measured = {name: sums_of_mean(value, count) for name, value in made.diagnostics.items()}
        return rowwise(anchor_RD, rival_RD, self.measure), measured

    def similarity(self, pair: Pair, own: slice) -> torch.Tensor:
        """[R, N]: of the first role's points, of the rows that are wanted, to the second's."""
        row, column = self._ends(pair, own)
        return matrix(row, column, self.measure)

    def hardest(
        self, pairs: tuple[Pair, ...], own: slice
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The largest of these similarities [R, N]; and where a synthetic point made it so."""
        originals = [pair for pair in pairs if set(pair) <= set(ORIGINAL)]
        if len(pairs) > 1 and all(role in self.shares for pair in pairs for role in pair):
            return self._of_shares(
                originals + [pair for pair in pairs if pair not in originals], len(originals), own
            )
        best = {pair: self.similarity(pair, own) for pair in pairs}
        most_RN = functools.reduce(torch.maximum, best.values())
        if len(originals) == len(pairs):
            return most_RN, None
        if not originals:
            return most_RN, torch.ones_like(most_RN, dtype=torch.bool)
        plain_RN = functools.reduce(torch.maximum, [best[pair].detach() for pair in originals])
        return most_RN, most_RN.detach() > plain_RN

    def _of_shares(self, pairs: list[Pair], originals: int, own: slice) -> tuple:
        """The same for sums of originals, without products of their own."""
        rows_K2N = torch.stack([self._row_shares(pair) for pair in pairs])
        columns_K2N = torch.stack([self.shares[column] for _, column in pairs])
        offsets_K2N = None
        if self.measure != "dot":  # minus the squared distance: 2 u.v - |u|^2 - |v|^2
            rows_K2N = 2 * rows_K2N
            ends = [self._ends(pair, slice(None)) for pair in pairs]
            lengths = [torch.stack([z.square().sum(1) for z in two]) for two in ends]
            offsets_K2N = -torch.stack(lengths)
        anchor_ND, positive_ND = self.points["anchor"], self.points["positive"]
        terms = [[(r, c) for r in self._made_of(pair) for c in MADE_OF[pair[1]]] for pair in pairs]
        shares = PointShares(rows_K2N, columns_K2N, offsets_K2N)
        most_RN, which_RN = largest(anchor_ND, positive_ND, shares, terms, own)
        if offsets_K2N is not None:
            longest = -offsets_K2N.detach().amin() if offsets_K2N.numel() else most_RN.new_zeros(())
            most_RN = from_squared(-most_RN, 2 * longest, self.measure)
        return most_RN, which_RN >= originals

    def _ends(self, pair: Pair, own: slice) -> tuple[torch.Tensor, torch.Tensor]:
        row, column = rows_of(self.points[pair[0]], own), self.points[pair[1]]
        return (row + rows_of(column, own) if self.both_ends else row), column

    def _made_of(self, pair: Pair) -> list[int]:
        """Which of anchor and positive the left side of a product has a share of."""
        return sorted({*MADE_OF[pair[0]], *(MADE_OF[pair[1]] if self.both_ends else ())})

    def _row_shares(self, pair: Pair) -> torch.Tensor:
        row = self.shares[pair[0]]
        return row + self.shares[pair[1]] if self.both_ends else row
