"""What a miner of the batch settles for all rows before any are compared."""

from dataclasses import dataclass

import torch

from rhs.methods.batch import SyntheticPoints
from rhs.methods.interfaces import Generate
from rhs.methods.mining.candidates import Candidates, place
from rhs.methods.mining.negatives import uniform


@dataclass
class Plan:
    """What is settled for all rows before any are compared: random numbers, and points that rows of
    other workers and tiles need too.

    Attributes:
        partner_BP, valid_BP: of each sample those of its class.
        at_B1: which of them it takes, where similarities do not say.
        points: synthetic points, if all rows see them; of the pairs `pair_N`, or for classes.
        member_BQ, member_valid_BQ: of each sample the points of its class.
        extended_at_B1: which of partners and points it takes, where similarities do not say.
        noise_BP, plain_noise_BP: random numbers by which negatives are drawn.
    """

    partner_BP: torch.Tensor
    valid_BP: torch.Tensor
    at_B1: torch.Tensor | None = None
    points: SyntheticPoints | None = None
    pair_N: tuple[torch.Tensor, ...] = ()
    member_BQ: torch.Tensor | None = None
    member_valid_BQ: torch.Tensor | None = None
    extended_at_B1: torch.Tensor | None = None
    noise_BP: torch.Tensor | None = None
    plain_noise_BP: torch.Tensor | None = None

    def pairs_and_points(
        self, chosen: Candidates, generate: Generate, own: slice
    ) -> tuple[tuple[torch.Tensor, ...], SyntheticPoints]:
        """The pairs of some rows, as row, place among its positives, and point; and the points."""
        row_N, place_N = chosen.valid_RP.nonzero(as_tuple=True)
        point_N = torch.arange(len(row_N)).to(row_N)
        if self.points is not None:
            if own.start:  # after the pairs of the rows before these
                point_N = point_N + (self.pair_N[0] < own.start).sum()
            return (row_N, place_N, point_N), self.points
        assert chosen.partner_RP is not None
        points = generate(row_N + (own.start or 0), chosen.partner_RP[row_N, place_N])
        return (row_N, place_N, point_N), points


def random_place(valid_BP: torch.Tensor, x_BD: torch.Tensor) -> torch.Tensor:
    """A place [B, 1] drawn of those that count."""
    return place(uniform(valid_BP.shape, x_BD), valid_BP)
