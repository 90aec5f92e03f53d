"""Intra-class adaptive augmentation (IAA): points drawn from each class's own distribution."""

import torch
import torch.nn.functional as F
from torch import nn

from rhs.errors import check_number
from rhs.methods.batch import Batch, SyntheticPoints
from rhs.methods.class_statistics import ClassSums
from rhs.methods.interfaces import Generator

CHUNK = 2**22  # distances between classes that are held at a time


class IntraClass(nn.Module, Generator):
    """Around each sample z draw points from N(z, strength variance), the variance its class's.

    Classes are described by mean and diagonal variance over the training set, refreshed every few
    epochs. The variance of a class of n <= `few` samples is corrected to
    (1 - a) own + a ((1 - gamma) neighbors' + gamma global), a = 1 / (1 + log(1 + beta (n - 1))),
    with neighbors weighted by n_i exp(-D_m^2 / 2 sigma_m^2 - D_v^2 / 2 sigma_v^2), where D_m and
    D_v are the distances between squared means and between variances. A class of one sample has no
    variance: it is nobody's neighbor, counts in no mean, and has what the other classes have. The
    sample passes gradients on, the noise does not.

    Args:
        draws: M, points for each sample.
        strength: lambda, the share of the variance (0.6 to 0.8 in the paper).
        every: epochs between refreshes.
        neighbors: K, the classes nearest by D_m.
        few: tau; classes of more samples are left as they are; 0 corrects none.
        beta: of the correction.
        gamma: of the correction.
        sigma_mean: sigma_m of the correction.
        sigma_variance: sigma_v of the correction.

    Source: Fu et al., Intra-class Adaptive Augmentation with Neighbor Correction for Deep Metric
    Learning, IEEE TMM 2022, equations 7 to 17.
    """

    for_classes = True  # its points are not made for pairs
    wants_refresh = True
    variance_CD: torch.Tensor

    def __init__(
        self,
        draws: int = 3,
        strength: float = 0.7,
        *,
        every: int = 4,
        neighbors: int = 25,
        few: int = 40,
        beta: float = 0.1,
        gamma: float = 0.1,
        sigma_mean: float = 1.0,
        sigma_variance: float = 1.0,
    ):
        super().__init__()
        for name, value in (("draws", draws), ("every", every), ("neighbors", neighbors)):
            check_number(f"generator.{name}", value, least=1, most=10_000, whole=True)
        check_number("generator.strength", strength, least=0)
        check_number("generator.few", few, least=0)
        check_number("generator.beta", beta, least=0)
        check_number("generator.gamma", gamma, least=0, most=1)
        check_number("generator.sigma_mean", sigma_mean, above=0)
        check_number("generator.sigma_variance", sigma_variance, above=0)
        self.draws, self.strength, self.every = draws, strength, every
        self.neighbors, self.few, self.beta, self.gamma = neighbors, few, beta, gamma
        self.sigma_mean, self.sigma_variance = sigma_mean, sigma_variance

    def prepare(self, num_classes: int, dim: int) -> None:
        """Allocate the classes' variances [C, D]; all 0, so no augmentation, before a refresh."""
        self.register_buffer("variance_CD", torch.zeros(num_classes, dim))

    def start_refresh(self) -> ClassSums:
        """What the pass over the training set adds its raw embeddings to."""
        classes, dim = self.variance_CD.shape
        return ClassSums(classes, dim, self.variance_CD.device, squares=True)

    def finish_refresh(self, sums: ClassSums) -> None:
        """Take over the variances, corrected."""
        corrected_CD = self.corrected(*sums.moments())
        self.variance_CD.copy_(corrected_CD)

    def corrected(
        self, count_C: torch.Tensor, mean_CD: torch.Tensor, variance_CD: torch.Tensor
    ) -> torch.Tensor:
        """The variances [C, D] with those of small classes corrected (equations 11 to 16)."""
        spread_C = count_C > 1  # one sample alone has no variance to tell others
        few_k = ((count_C <= self.few) & (count_C > 0)).nonzero()[:, 0]
        there_c = spread_C.nonzero()[:, 0]
        if len(there_c) == 1:
            few_k = few_k[few_k != there_c]  # it has no neighbor
        if not len(few_k) or not len(there_c):
            return variance_CD
        global_D = (count_C[:, None] * variance_CD)[there_c].sum(0) / count_C[there_c].sum()
        result_CD = variance_CD.clone()
        for part_k in few_k.split(max(1, CHUNK // len(there_c))):
            nearby_kD = self._of_neighbors(part_k, there_c, count_C, mean_CD, variance_CD)
            share_k1 = 1 / (1 + torch.log1p(self.beta * (count_C[part_k] - 1)))[:, None]
            other_kD = (1 - self.gamma) * nearby_kD + self.gamma * global_D
            result_CD[part_k] = torch.lerp(variance_CD[part_k], other_kD, share_k1)
        return result_CD

    def _of_neighbors(
        self,
        part_k: torch.Tensor,
        there_c: torch.Tensor,
        count_C: torch.Tensor,
        mean_CD: torch.Tensor,
        variance_CD: torch.Tensor,
    ) -> torch.Tensor:
        squared_CD = mean_CD.square()
        apart_kc = torch.cdist(squared_CD[part_k], squared_CD[there_c])
        apart_kc = apart_kc.masked_fill(part_k[:, None] == there_c[None, :], torch.inf)
        nearest = apart_kc.topk(min(self.neighbors, len(there_c)), largest=False)
        index_kn = there_c[nearest.indices]
        variances_kD = (variance_CD[part_k][:, None] - variance_CD[index_kn]).norm(dim=2)
        mean_part = (nearest.values / self.sigma_mean).square()
        variance_part = (variances_kD / self.sigma_variance).square()
        # n exp(...) over its sum, as a softmax: far classes must not underflow to 0 / 0.
        weight_kn = (count_C[index_kn].log() - 0.5 * (mean_part + variance_part)).softmax(1)
        return (weight_kn[:, :, None] * variance_CD[index_kn]).sum(1)

    def forward(
        self, batch: Batch, anchor_N: torch.Tensor, positive_N: torch.Tensor, progress: float
    ) -> SyntheticPoints:
        """`draws` points for each sample of the batch, on the unit sphere where the batch is."""
        raw_BD, labels_B = batch.raw_BD, batch.labels_B
        spread_BD = (self.strength * self.variance_CD[labels_B]).sqrt().to(raw_BD.dtype)
        noise = torch.randn(self.draws, *raw_BD.shape, dtype=torch.float64).to(raw_BD)
        made_MD = (raw_BD + spread_BD * noise).flatten(0, 1)
        if batch.normalized:
            made_MD = F.normalize(made_MD)
        parent_M = torch.arange(len(labels_B), device=labels_B.device).repeat(self.draws)
        return SyntheticPoints(made_MD, labels_B[parent_M], parent_M)
