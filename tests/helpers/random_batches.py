"""Batches of random embeddings, and what an objective makes of them."""

import torch

CLASSES, DIM = 6, 8


def embeddings(per_class: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """CLASSES overlapping classes, one after the other: float64 [B, DIM], labels [B]."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    prototypes = torch.randn(CLASSES, DIM, generator=random)
    noise = 0.7 * torch.randn(len(labels), DIM, generator=random)
    return (prototypes[labels] + noise).double(), labels


def value_and_gradient(made, x, labels, progress: float = 0.6):
    """The loss as a number, its gradient by x, and the diagnostics."""
    x = x.clone().requires_grad_()
    torch.manual_seed(0)
    loss, diagnostics = made(x, labels, progress)
    loss.backward()
    return loss.item(), x.grad, diagnostics
