"""The loop of plain_loop.py on several processes. Nothing is said twice: DistributedDataParallel
around the model, and the loss and the sampler are those of one process.

    torchrun --nproc-per-node 2 examples/distributed.py

The losses it prints are the same, but for rounding, on every number of processes.
"""

import torch
import torch.distributed as dist
from plain_loop import CLASSES, EPOCHS, noisy_patterns
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import rhs


def main() -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(dist.get_rank())  # as everybody does; it makes no difference
    images, labels = noisy_patterns(seed=0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 256), nn.ReLU(), nn.Linear(256, 64))
    trained = DistributedDataParallel(model)

    sampler = rhs.BalancedBatchSampler(labels, classes=10, per_class=4, seed=0)  # each its share
    loader = DataLoader(TensorDataset(images, labels), batch_sampler=sampler)
    loss_fn = rhs.create_loss(
        "rhs_npair", num_classes=CLASSES, embedding_size=64, total_steps=EPOCHS * len(loader)
    )
    optimizer = torch.optim.AdamW([*model.parameters(), *loss_fn.parameters()], lr=1e-3)

    for epoch in range(EPOCHS):
        for batch, batch_labels in loader:
            loss = loss_fn(trained(batch), batch_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if dist.get_rank() == 0:
            print(f"epoch {epoch + 1}: loss {loss.item():.6f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
