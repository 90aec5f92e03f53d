"""Multi-class N-pair loss."""

import torch
import torch.nn.functional as F


class NPair:
    """L = mean over pairs of log(1 + sum over negatives of exp(negative - positive)).

    Pairs of the same class are not each other's negatives. A pair without any negative adds 0.

    Source: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016
    (equation 6, N-pair-mc).
    """

    def __call__(
        self, positive_N: torch.Tensor, negative_NN: torch.Tensor, labels_N: torch.Tensor
    ) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            positive_N: similarity of each anchor to its positive.
            negative_NN: similarity of pair i to pair j; same-class entries are ignored.
            labels_N: class of each pair.
        """
        same_NN = labels_N[:, None] == labels_N[None, :]
        own_NN = torch.eye(len(labels_N), dtype=torch.bool, device=labels_N.device)
        logits_NN = negative_NN.masked_fill(same_NN, float("-inf"))
        # torch.where, not an in-place write: the diagonal carries the positives' gradient.
        logits_NN = torch.where(own_NN, positive_N[:, None], logits_NN)
        return F.cross_entropy(logits_NN, torch.arange(len(labels_N), device=labels_N.device))
