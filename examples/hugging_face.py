"""A loss of rhs-dml with the Trainer of Hugging Face (`pip install transformers accelerate`).

python examples/hugging_face.py
"""

from plain_loop import CLASSES, EPOCHS, noisy_patterns
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainingArguments

import rhs


class Images(Dataset):
    def __init__(self):
        self.images, self.labels = noisy_patterns(seed=0)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return {"images": self.images[row], "labels": self.labels[row]}


class Embedding(nn.Module):
    """The Trainer optimizes the parameters of its model: the loss's are among them."""

    def __init__(self, total_steps: int):
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 64))
        self.loss_fn = rhs.create_loss("rhs_npair", CLASSES, 64, total_steps=total_steps)

    def forward(self, images, labels):
        return {"loss": self.loss_fn(self.model(images), labels)}


class BalancedTrainer(Trainer):
    def get_train_dataloader(self):
        labels = self.train_dataset.labels
        sampler = rhs.BalancedBatchSampler(labels, classes=10, per_class=4)
        return DataLoader(self.train_dataset, batch_sampler=sampler, collate_fn=self.data_collator)


def main() -> None:
    steps = EPOCHS * len(rhs.BalancedBatchSampler(Images().labels, classes=10, per_class=4))
    arguments = TrainingArguments(
        output_dir="hugging_face",
        max_steps=steps,
        learning_rate=1e-3,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=steps,
        disable_tqdm=True,
    )
    trainer = BalancedTrainer(Embedding(steps), arguments, train_dataset=Images())
    print(f"loss {trainer.train().training_loss:.3f}")


if __name__ == "__main__":
    main()
