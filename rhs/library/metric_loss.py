"""A loss for a training loop of one's own."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from rhs.errors import UserError, check_number
from rhs.library.label_encoder import LabelEncoder
from rhs.methods.centers import BatchCenters, LeaveOneOutCenters
from rhs.methods.objective import Objective, takes_values

PATIENCE = 20  # first steps in which rotations are looked at: centers have yet to settle


class MetricLoss(nn.Module):
    """`loss_fn(embeddings, labels)`: a scalar, the loss of the global batch.

    Distributed training needs no extra line: with DistributedDataParallel (or `fully_shard`) around
    the model and the loss left alone, value and gradients are those of one process that holds the
    whole batch. Ranks may have any number of rows and any seeds. Every rank calls it in each step.

    Its parameters, if it has any, exist from the start: give them to the optimizer too. Its state
    (class centers, signatures, the steps done) is in its `state_dict`; only a forward pass in
    training mode, with gradients, changes it.

    Args:
        objective: the composition of a loss's parts.
        num_classes: C, classes of the training set.
        embedding_size: D, length of an embedding.
        total_steps: training steps (calls in training mode) of the whole run, for a loss that
            changes as training goes on; or tell it with `set_progress`.
        class_values: [C, L] continuous labels of the classes, for a loss of such.

    Attributes:
        diagnostics: what the last batch was like: scalar tensors by name.
        needs_refresh: it must be shown the whole training set, see `refresh`, before the first step
            and, as a rule, every epoch.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        objective: Objective,
        num_classes: int,
        embedding_size: int,
        *,
        total_steps: int | None = None,
        class_values: torch.Tensor | None = None,
    ):
        super().__init__()
        check_number("num_classes", num_classes, least=2, whole=True)
        check_number("embedding_size", embedding_size, least=1, whole=True)
        if total_steps is not None:
            check_number("total_steps", total_steps, least=1, whole=True)
        self.objective, self.embedding_size = objective, embedding_size
        self.total_steps = total_steps
        self.label_encoder = LabelEncoder(num_classes, any_label=class_values is None)
        self.diagnostics: dict[str, torch.Tensor] = {}
        self.needs_refresh = objective.needs_refresh(0)
        self._refreshed, self._step = False, 0
        self._progress: float | None = None
        self._idle_steps = 0  # of the first ones: most rotations moved nothing
        self._takes_values = takes_values(objective) and class_values is None
        objective.prepare(num_classes, embedding_size, **self._values(class_values))
        self._tell_of_sparse_tables()

    def _values(self, class_values: torch.Tensor | None) -> dict:
        if takes_values(self.objective):
            return {"values_CL": class_values, "images_have_values": class_values is None}
        if class_values is not None:
            raise UserError("class_values are for losses of continuous labels, such as log_ratio.")
        return {}

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, values: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            embeddings: [b, D], this rank's rows, as the model makes them.
            labels: [b] whole numbers, 0 or more; any that tell the classes apart.
            values: [b, L] continuous labels of the rows, for a loss of such.

        Raises:
            UserError: a tensor of another shape, a label beyond `num_classes` different ones, a
                loss that must be told of the progress or shown the training set and was not.
        """
        labels = self._checked(embeddings, labels)
        self._check_values(values)
        progress = self._current_progress()
        if self.needs_refresh and not self._refreshed:
            raise UserError(
                "This loss needs statistics of the whole training set: call "
                "loss_fn.refresh(loader, model) before the first step, and then every epoch."
            )
        learns = self.training and torch.is_grad_enabled()
        numbers = self.label_encoder(labels, learn=learns)
        loss, measured = self.objective(embeddings, numbers, progress, values)
        self.diagnostics = {name: value.detach() for name, value in measured.items()}
        if learns:
            self._count_step()
        return loss

    def set_progress(self, progress: float) -> None:
        """Say how much of the training is done, 0 to 1; holds until it is called again."""
        check_number("progress", progress, least=0, most=1)
        self._progress = progress

    @torch.no_grad()
    def refresh(self, loader: Iterable, model: nn.Module | None = None) -> None:
        """Take the training set's statistics anew; each sample must come once, on one rank.

        This rank's embeddings are held in memory until the end.

        Args:
            loader: this rank's share, as (images, labels) in batches, without augmentation; or,
                without a model, as (embeddings, labels).
            model: embeds the images, in evaluation mode; its mode is put back afterwards.
        """
        if not self.needs_refresh:
            return
        device = self.label_encoder.label_C.device
        samples = []
        with _evaluating(model):
            for inputs, labels, *_ in loader:
                x_bD = inputs.to(device) if model is None else model(inputs.to(device))
                x_bD = x_bD.to(torch.promote_types(x_bD.dtype, torch.float32))
                samples.append((x_bD, self._checked(x_bD, labels)))
        none = torch.empty(0, dtype=torch.long, device=device)
        numbers = self.label_encoder(torch.cat([none, *(labels for _, labels in samples)]))
        parts = numbers.split([len(x_bD) for x_bD, _ in samples])
        self.objective.refresh(0, ((x, part) for (x, _), part in zip(samples, parts, strict=True)))
        self._refreshed = True

    def get_extra_state(self) -> torch.Tensor:
        """Steps done, and whether the training set has been shown."""
        return torch.tensor([self._step, int(self._refreshed)])

    def set_extra_state(self, state: torch.Tensor) -> None:
        self._step, self._refreshed = int(state[0]), bool(state[1])

    def _checked(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The labels, where the embeddings are; refuses what does not fit."""
        if type(embeddings).__name__ == "DTensor":
            raise UserError(
                "embeddings is a DTensor: give this rank's rows, embeddings.to_local()."
            )
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_size:
            raise UserError(
                f"embeddings has shape {tuple(embeddings.shape)}; it must be [rows, "
                f"{self.embedding_size}], the embedding_size of the loss."
            )
        if not embeddings.is_floating_point():
            raise UserError(f"embeddings is of {embeddings.dtype}; it must be of real numbers.")
        labels = torch.as_tensor(labels)
        whole = not (labels.is_floating_point() or labels.is_complex())
        if labels.shape != embeddings.shape[:1] or not whole or labels.dtype == torch.bool:
            raise UserError(
                f"labels has shape {tuple(labels.shape)} and is of {labels.dtype}; it must be "
                f"[{len(embeddings)}] whole numbers, one for each row of embeddings."
            )
        own = self.label_encoder.label_C.device
        if embeddings.device != own:
            raise UserError(
                f"embeddings is on {embeddings.device}, but the loss is on {own}: call "
                "loss_fn.to(embeddings.device) before training."
            )
        return labels.to(own, torch.long)

    def _check_values(self, values: torch.Tensor | None) -> None:
        if values is None and self._takes_values:
            raise UserError(
                "This loss is of continuous labels: give class_values to create_loss, or call "
                "loss_fn(embeddings, labels, values)."
            )
        if values is not None and not self._takes_values:
            raise UserError(
                "values was given, but this loss takes none: it is for a loss of continuous "
                "labels, such as log_ratio, without class_values."
            )

    def _current_progress(self) -> float:
        if self._progress is not None:
            return self._progress
        if self.total_steps is not None:
            return min(1.0, self._step / self.total_steps)
        if self.objective.generator is not None and self.objective.generator.uses_progress:
            raise UserError(
                "This loss changes as training goes on: give total_steps to create_loss, or call "
                "loss_fn.set_progress(share of training done) before each step."
            )
        return 0.0

    def _count_step(self) -> None:
        self._step += 1
        if self.total_steps is not None and self._step == self.total_steps + 1:
            warnings.warn(
                f"Training goes on beyond total_steps={self.total_steps}: the loss's schedule "
                "stays at its end.",
                stacklevel=4,
            )
        # Later steps are not looked at: that waits for the GPU.
        if "rotations_unmoved" not in self.diagnostics or self._step > PATIENCE:
            return
        self._idle_steps += bool(self.diagnostics["rotations_unmoved"] > 0.5)
        forgets = isinstance(self.objective.centers, (BatchCenters, LeaveOneOutCenters))
        if self._idle_steps == self._step == (1 if forgets else PATIENCE):
            warnings.warn(
                "Most rotations move nothing, because the class center is the pair's own midpoint: "
                "take three or more rows of a class, or centers that remember other batches "
                "(rhs.EMACenters).",
                stacklevel=4,
            )

    def _tell_of_sparse_tables(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding) and module.sparse:
                warnings.warn(
                    f"loss_fn.{name}.weight has sparse gradients: give it to "
                    "torch.optim.SparseAdam, and the model's parameters to their own optimizer.",
                    stacklevel=4,
                )


@contextmanager
def _evaluating(model: nn.Module | None) -> Iterator[None]:
    """Within, the model is in evaluation mode; afterwards each of its modules as it was."""
    modes = [] if model is None else [(part, part.training) for part in model.modules()]
    if model is not None:
        model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
