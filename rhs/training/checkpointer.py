"""When a run's checkpoints are written: by rank 0, in the background, every so often."""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from rhs.config.settings import CheckpointConfig
from rhs.distributed import collectives
from rhs.errors import UserError
from rhs.storage.store import Store
from rhs.training import checkpoint
from rhs.training.hooks import RunHooks
from rhs.training.progress import Progress

# What `train.select` calls the best, and the column that is highest there.
BEST = {"best": "val_recall@1", "best_map@r": "val_map@r"}
PATIENCE = 3  # checkpoints in a row that may fail
WRITER = "writer"  # the object that names the try that writes, of those of one owner


class TrainingStopped(Exception):
    """Training ended early because it was asked to; what it had done is saved.

    Args:
        step: the last one, counted over the whole run.
    """

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}")
        self.step = step


class Checkpointer:
    """Keeps the checkpoints of a run, on the one rank that has one.

    A checkpoint is copied while training waits and written while it goes on. One that cannot be
    written is told and tried again at the next occasion; the third in a row ends the run.

    Args:
        parts: the embedder, the objective and the optimizer.
        plan: of the batches.
        hooks: `say`, and `stopping`: training then ends after a step, saved.
        owner: of the run's lock; a writer that lost it writes nothing. None: there is no lock.
    """

    def __init__(
        self,
        store: Store,
        parts: tuple,
        plan: Any,
        settings: CheckpointConfig,
        hooks: RunHooks,
        *,
        owner: str | None = None,
    ):
        self.store, self.parts, self.plan, self.settings = store, parts, plan, settings
        self.hooks, self.owner = hooks, owner
        self.saved_at, self.failures = time.monotonic(), 0
        store.delete_leftovers()
        self.me = uuid.uuid4().hex.encode()
        if owner is not None:
            store.write(WRITER, self.me)
        self.writer = ThreadPoolExecutor(1, "checkpoint")
        self.writing: Future[None] | None = None

    def due(self, step: int) -> bool:
        """Whether to save after this step, counted over the whole run."""
        steps, seconds = self.settings.every_steps, self.settings.every_seconds
        if self.hooks.stopping() or (steps and step % steps == 0):
            return True
        if seconds is None or (self.writing is not None and not self.writing.done()):
            return False  # a disk that is slower than that is not waited for
        return time.monotonic() - self.saved_at >= seconds

    def save(self, progress: Progress) -> None:
        """Copy the state of now and begin to write it.

        Raises:
            Stopped: training is to end; the checkpoint is written.
            UserError: checkpoints could not be written several times, or another process has taken
                the run over.
        """
        self._finish()
        step = progress.total(self.plan.steps)
        tensors = checkpoint.cpu_copies(checkpoint.state_tensors(*self.parts))
        if progress.step and self.plan.adaptive:
            tensors["plan.batches"] = torch.from_numpy(
                self.plan.epoch_indices(progress.epochs_done)
            )
        best = {best_step(progress.history, column) for column in BEST.values()}
        # Copied too: the loop goes on counting.
        state = progress.state()
        self.saved_at = time.monotonic()
        self.writing = self.writer.submit(self._write, step, tensors, state, best)
        if self.hooks.stopping():
            self._finish(last=True)
            raise TrainingStopped(step)

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait until everything is written, also after an error; see `save` for what may come."""
        self._finish(last=kind is None)

    def _write(self, step: int, tensors: dict, state: dict, best: set[int | None]) -> None:
        self._check_owner()
        checkpoint.save(self.store, step, tensors, state)
        self._check_owner()
        checkpoint.prune(self.store, step, self.settings.keep, best)

    def _check_owner(self) -> None:
        """Raises UserError unless this is still the one that writes: a rank that was cut off from
        the others may go on after they have started again without it."""
        if self.owner is None:
            return
        from rhs.storage.lease import is_owner  # torch alone is enough where there is no lock

        if not is_owner(self.store, self.owner) or self.store.read(WRITER) != self.me:
            raise UserError(
                f"Another process has taken over the run in {self.store.location}: this one ends."
            )

    def _finish(self, last: bool = False) -> None:
        """Wait for the checkpoint in the making, if there is one."""
        writing, self.writing = self.writing, None
        if writing is None:
            return
        try:
            writing.result()
            self.failures = 0
        except OSError as error:
            self.failures += 1
            if last or self.failures == PATIENCE:
                raise UserError(
                    f"Checkpoints cannot be written to {self.store.location} ({error}): mend that "
                    "and run the same command; it continues from the last one that was written."
                ) from error
            self.hooks.say(
                f"warning: a checkpoint could not be written to {self.store.location} ({error}); "
                "training goes on and tries again"
            )


def best_step(history: list[dict], column: str) -> int | None:
    """The step of the epoch with the highest value, the first of equals; None without any.

    Args:
        column: of BEST.
    """
    scored = [row for row in history if column in row]
    return max(scored, key=lambda row: row[column])["step"] if scored else None


def _newest(store: Store, say: Callable[[str], None]) -> tuple[dict, dict] | None:
    try:
        return checkpoint.load_latest(store, say)
    except OSError as error:
        raise UserError(
            f"Checkpoints in {store.location} cannot be read ({error}): mend that and run the same "
            "command; it continues."
        ) from error


def resume(
    store: Store, parts: tuple, plan: Any, device: torch.device, say: Callable[[str], None]
) -> Progress:
    """Continue from rank 0's newest checkpoint; others may still see an older one.

    Raises:
        UserError: on rank 0, if the store is away.
    """
    found = _newest(store, say) if collectives.rank() == 0 else None
    newest = Progress(**found[1]).total(plan.steps) if found else 0
    step = int(collectives.broadcast_from_first(torch.tensor([newest]), device))
    if step == 0:
        return Progress()
    tensors, state = found or checkpoint.load(store, step)
    batches = tensors.pop("plan.batches", None)
    checkpoint.load_state_tensors(tensors, *parts)
    progress = Progress(**state)
    if batches is not None:
        plan.set_batches(progress.epochs_done, batches.numpy())
    where = f"after epoch {progress.epochs_done}"
    if progress.step:
        where = f"after step {progress.step}/{plan.steps} of epoch {progress.epochs_done + 1}"
    say(f"continuing {where}")
    return progress
