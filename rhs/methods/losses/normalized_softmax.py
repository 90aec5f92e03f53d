"""Softmax over learned class signatures (proxies)."""

import torch
import torch.nn.functional as F
from torch import nn

from rhs.errors import check_number
from rhs.methods.class_statistics import ClassSums
from rhs.methods.interfaces import DivisibleLabelLoss
from rhs.methods.sums import Sums, total_of_means
from rhs.methods.tiles import WHOLE, RowSums, Shares, rows_of


class NormalizedSoftmax(nn.Module, DivisibleLabelLoss):
    """Cross-entropy of cosine similarities to one learned signature per class.

    L = mean of -log(exp(scale cos(x, w_y)) / sum_c exp(scale cos(x, w_c))).

    Args:
        scale: 1 / temperature. At 1, as SCHEM prints the loss, the least it can be with C classes
            is log(1 + (C - 1) e^-2), so its gradients never vanish.
        sampled: None compares with all classes, whose signatures then all move in every step. A
            number compares with the classes of the batch and that many others, drawn anew for each
            step: only these rows are read, have gradients and are updated.
        from_means: start from the mean of each class before the first epoch, not from random
            directions.
        lr_factor: how many times as fast as the embedding head the signatures learn.

    Source: Zhai and Wu, Classification is a Strong Baseline for Deep Metric Learning, BMVC 2019.
    """

    every = 2**62  # epochs between refreshes: only before the first

    def __init__(
        self,
        scale: float = 16.0,
        sampled: int | None = None,
        from_means: bool = False,
        lr_factor: float = 1.0,
    ):
        super().__init__()
        check_number("scale of the softmax", scale, above=0)
        check_number("lr_factor of the softmax", lr_factor, above=0)
        if sampled is not None:
            check_number("sampled of the softmax", sampled, least=0, most=10**6, whole=True)
        self.scale, self.sampled = scale, sampled
        self.from_means, self.lr_factor = from_means, lr_factor
        self.wants_refresh = from_means  # before the first epoch

    def prepare(self, num_classes: int, dim: int) -> None:
        """Allocate the signatures [C, D], of unit length at the start."""
        self.signatures = nn.Embedding(num_classes, dim, sparse=self.sampled is not None)
        self.signatures.lr_factor = self.lr_factor  # type: ignore[assignment]
        with torch.no_grad():
            self.signatures.weight.copy_(F.normalize(self.signatures.weight))

    def start_refresh(self) -> ClassSums:
        """What the pass over the training set adds its embeddings to."""
        num_classes, dim = self.signatures.weight.shape
        return ClassSums(num_classes, dim, self.signatures.weight.device)

    @torch.no_grad()
    def finish_refresh(self, sums: ClassSums) -> None:
        """Point each signature to its class's mean; those of classes without samples stay."""
        count_C, mean_CD = sums.mean()
        weight_CD = self.signatures.weight
        weight_CD.copy_(torch.where(count_C[:, None] > 0, F.normalize(mean_CD), weight_CD.double()))

    def of(self, labels_B: torch.Tensor) -> torch.Tensor:
        """The signatures [B, D], of unit length, of some classes."""
        return F.normalize(self.signatures(labels_B))

    @torch.no_grad()
    def all(self) -> torch.Tensor:
        """The signatures [C, D], of unit length, of all classes."""
        return F.normalize(self.signatures.weight)

    def forward(self, x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar."""
        return total_of_means(self.row_sums(x_BD, labels_B, None, WHOLE).sums(slice(None)))

    def row_sums(
        self,
        x_BD: torch.Tensor,
        labels_B: torch.Tensor,
        values_BL: torch.Tensor | None,
        shares: Shares,
    ) -> RowSums:
        """The loss of any rows; what other classes are compared with is drawn here, for all."""
        classes_K, target_B = self._classes(labels_B)
        signature_KD = shares.complete(self.of(classes_K))

        def sums(rows: slice) -> list[Sums]:
            logits_RK = self.scale * F.normalize(rows_of(x_BD, rows)) @ signature_KD.T
            lost = F.cross_entropy(logits_RK, target_B[rows], reduction="sum")
            return [(lost, torch.full_like(target_B[rows], 1).sum())]

        return RowSums(len(x_BD), len(classes_K), sums)

    def _classes(self, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The classes compared with, sorted, and the place of each label among them."""
        num_classes = self.signatures.num_embeddings
        if self.sampled is None:
            return torch.arange(num_classes, device=labels_B.device), labels_B
        others = torch.randint(num_classes, (self.sampled,)).to(labels_B.device)
        classes_K = torch.unique(torch.cat([labels_B, others]))
        return classes_K, torch.searchsorted(classes_K, labels_B)
