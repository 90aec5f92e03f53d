"""Disjoint pairs of one class, and the hardest negative between each two of them.

The pairs of a batch have up to four roles: `anchor`, `positive`, and the synthetic points made from
each of them, `synthetic_anchor` and `synthetic_positive`, all [N, D] with one pair a row.
"""

import functools
import itertools

import torch

from rhs.errors import UserError
from rhs.methods.generators import Batch, Generate
from rhs.methods.pairs import pair_up
from rhs.methods.rows import HARDER, Rows, masked_mean
from rhs.methods.similarity import from_dots, rowwise

ORIGINAL = ("anchor", "positive")
ROLES = (*ORIGINAL, "synthetic_anchor", "synthetic_positive")
POSITIVES = ("original", "hardest", "synthetic", "combined")
EVERY = tuple(itertools.product(ROLES, ROLES))


class PairMining:
    """One row a pair: the anchor's positive, and its hardest negative in each other pair.

    Args:
        positives: what an anchor is compared with: the `original` positive, the `synthetic` one,
            the `hardest` (whichever is less similar), or the most similar of the same combinations
            as for negatives, `combined` (the released code of Symmetrical Synthesis).
        negatives: pairs of roles, or `all` 16 of them; the similarity of pair i to pair j is the
            largest over them, of the first role's point in i to the second's in j.
        both_ends: add to each similarity that of the second role's point in i, as the angular loss
            wants: (u_i + v_i) . v_j for the roles (u, v).
    """

    per_positive = False

    def __init__(self, positives: str = "original", negatives=(ORIGINAL,), both_ends: bool = False):
        if positives not in POSITIVES:
            raise UserError(
                f"mining.positives is {positives!r}; it must be one of {', '.join(POSITIVES)}."
            )
        combinations = EVERY if negatives == "all" else tuple(tuple(pair) for pair in negatives)
        unknown = {role for pair in combinations for role in pair} - set(ROLES)
        if unknown or not combinations:
            raise UserError(
                f"mining.negatives has {sorted(unknown) or 'no pair'}; "
                f"give pairs of {', '.join(ROLES)}, or all."
            )
        self.positives, self.combinations, self.both_ends = positives, combinations, both_ends

    @property
    def uses_generator(self) -> bool:
        """Whether anything synthetic is compared with."""
        used = {role for pair in self.combinations for role in pair}
        return self.positives in ("hardest", "synthetic") or not used <= set(ORIGINAL)

    def __call__(
        self, batch: Batch, generate: Generate | None, measure: str, with_plain: bool = False
    ) -> tuple[Rows, Rows | None]:
        """Rows of the pairs; with a generator and if asked, those of the originals alone too."""
        anchor_N, positive_N = pair_up(batch.labels_B)
        roles = _Roles(batch, anchor_N, positive_N, generate, measure, self.both_ends)
        labels_N = batch.labels_B[anchor_N]
        different_NN = labels_N[:, None] != labels_N[None, :]
        own_N1 = different_NN.new_ones(len(labels_N), 1)
        original_N = rowwise(roles.points["anchor"], roles.points["positive"], measure)
        plain_NN = roles.similarity(ORIGINAL)
        plain = Rows(original_N[:, None], own_N1, plain_NN, different_NN, labels_N)
        if generate is None:
            return plain, None
        hardest_NN = functools.reduce(
            torch.maximum, [roles.similarity(pair) for pair in self.combinations]
        )
        positive_N = self._positives(roles, original_N, hardest_NN)
        told = self._diagnostics(roles, original_N, plain_NN, hardest_NN, different_NN)
        hard = Rows(
            positive_N[:, None], own_N1, hardest_NN, different_NN, labels_N, diagnostics=told
        )
        return hard, plain if with_plain else None

    def _positives(self, roles: "_Roles", original_N, hardest_NN) -> torch.Tensor:
        if self.positives == "original":
            return original_N
        if self.positives == "combined":
            return hardest_NN.diagonal()
        synthetic_N = roles.to_synthetic()
        return synthetic_N if self.positives == "synthetic" else original_N.minimum(synthetic_N)

    @torch.no_grad()
    def _diagnostics(self, roles, original_N, plain_NN, hardest_NN, different_NN) -> dict:
        gained_N = original_N - roles.to_synthetic()
        every_N = torch.ones_like(gained_N, dtype=torch.bool)
        told = roles.diagnostics | {
            "hardness_gained": masked_mean(gained_N, every_N),
            "synthetic_harder": masked_mean((gained_N > HARDER).to(gained_N.dtype), every_N),
        }
        if not set(itertools.chain(*self.combinations)) <= set(ORIGINAL):
            wins_NN = (hardest_NN > plain_NN + HARDER).to(gained_N.dtype)
            told["synthetic_negatives"] = masked_mean(wins_NN, different_NN)
        return told


class _Roles:
    """The points of each role, and the similarities between roles."""

    def __init__(self, batch: Batch, anchor_N, positive_N, generate, measure, both_ends):
        self.measure, self.both_ends = measure, both_ends
        self.points = {"anchor": batch.x_BD[anchor_N], "positive": batch.x_BD[positive_N]}
        self.diagnostics: dict[str, torch.Tensor] = {}
        one_N, zero_N = torch.ones_like(self.points["anchor"][:, 0]), None
        self.weights: dict[str, tuple] = {"anchor": (one_N, zero_N), "positive": (zero_N, one_N)}
        self.linear = False
        self._dots: dict[tuple[str, str], torch.Tensor] = {}
        if generate is not None:
            self._generate(generate, anchor_N, positive_N)

    def _generate(self, generate, anchor_N, positive_N) -> None:
        made = generate(torch.cat([anchor_N, positive_N]), torch.cat([positive_N, anchor_N]))
        halves = made.x_MD.chunk(2)
        self.points |= dict(zip(("synthetic_positive", "synthetic_anchor"), halves, strict=True))
        self.diagnostics = made.diagnostics
        self.linear = made.weights_M2 is not None
        if self.linear:
            of_positive, of_anchor = made.weights_M2.chunk(2)
            self.weights["synthetic_positive"] = (of_positive[:, 0], of_positive[:, 1])
            self.weights["synthetic_anchor"] = (of_anchor[:, 1], of_anchor[:, 0])

    def to_synthetic(self) -> torch.Tensor:
        """Similarity [N] of each anchor to the point made from its positive."""
        return rowwise(self.points["anchor"], self.points["synthetic_positive"], self.measure)

    def similarity(self, pair: tuple[str, str]) -> torch.Tensor:
        """[N, N]: of the first role's points to the second's."""
        dot_NN = self.dot(*pair)
        if self.both_ends:
            dot_NN = dot_NN + self.dot(pair[1], pair[1])
        return from_dots(dot_NN, self.points[pair[0]], self.points[pair[1]], self.measure)

    def dot(self, row: str, column: str) -> torch.Tensor:
        """Dot products [N, N] between two roles, computed once."""
        if (column, row) in self._dots:
            return self._dots[column, row].T
        if (row, column) not in self._dots:
            both_original = row in ORIGINAL and column in ORIGINAL
            if both_original or not self.linear:
                made = self.points[row] @ self.points[column].T
            else:
                made = self._combined(row, column)
            self._dots[row, column] = made
        return self._dots[row, column]

    def _combined(self, row: str, column: str) -> torch.Tensor:
        """Dot products of combinations of originals, from those of the originals."""
        terms = []
        for r, of_row_N in zip(ORIGINAL, self.weights[row], strict=True):
            for c, of_column_N in zip(ORIGINAL, self.weights[column], strict=True):
                if of_row_N is None or of_column_N is None:
                    continue
                terms.append(self.dot(r, c) * of_row_N[:, None] * of_column_N[None, :])
        return functools.reduce(torch.add, terms)
