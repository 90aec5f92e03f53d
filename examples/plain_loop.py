"""A loss of rhs-dml in a training loop of one's own: torch, numpy, PyYAML and tqdm are enough.

python examples/plain_loop.py
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import rhs

CLASSES, IMAGES, EPOCHS = 20, 30, 4


def noisy_patterns(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [N, 3, 16, 16] of CLASSES patterns under noise, and their labels [N]."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat_interleave(IMAGES)
    patterns = torch.randn(CLASSES, 3, 16, 16, generator=random)
    return patterns[labels] + 4 * torch.randn(len(labels), 3, 16, 16, generator=random), labels


def recall(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return rhs.retrieval_scores(model(images), labels, ks=[1], draws=0).values["recall@1"]


def main() -> None:
    torch.manual_seed(0)
    images, labels = noisy_patterns(seed=0)
    others = noisy_patterns(seed=1)  # of classes that training does not see
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 256), nn.ReLU(), nn.Linear(256, 64))

    sampler = rhs.BalancedBatchSampler(labels, classes=10, per_class=4, seed=0)
    loader = DataLoader(TensorDataset(images, labels), batch_sampler=sampler)
    loss_fn = rhs.create_loss(
        "rhs_npair", num_classes=CLASSES, embedding_size=64, total_steps=EPOCHS * len(loader)
    )
    optimizer = torch.optim.AdamW([*model.parameters(), *loss_fn.parameters()], lr=1e-3)

    print(f"before: Recall@1 {recall(model, images, labels):.3f}")
    for epoch in range(EPOCHS):
        for batch, batch_labels in loader:
            loss = loss_fn(model(batch), batch_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        moved = 1 - loss_fn.diagnostics["rotations_unmoved"]
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, {moved:.0%} of the positives rotated")
    print(f"after:  Recall@1 {recall(model, images, labels):.3f}")
    print(f"unseen classes:  {recall(model, *others):.3f}")


if __name__ == "__main__":
    main()
