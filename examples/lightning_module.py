"""A loss of rhs-dml in a LightningModule (`pip install lightning`).

python examples/lightning_module.py
"""

import lightning
import torch
from plain_loop import CLASSES, EPOCHS, noisy_patterns
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import rhs


class Embedding(lightning.LightningModule):
    def __init__(self, total_steps: int):
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 64))
        self.loss_fn = rhs.create_loss("rhs_npair", CLASSES, 64, total_steps=total_steps)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = self.loss_fn(self.model(images), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main() -> None:
    images, labels = noisy_patterns(seed=0)
    sampler = rhs.BalancedBatchSampler(labels, classes=10, per_class=4)
    loader = DataLoader(TensorDataset(images, labels), batch_sampler=sampler)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        use_distributed_sampler=False,  # BalancedBatchSampler gives each process its share
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Embedding(EPOCHS * len(loader)), loader)
    print(f"loss {trainer.callback_metrics['loss']:.3f}")


if __name__ == "__main__":
    main()
