"""The Ray Train run and what each of its workers does."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rhs.data.open_images import input_threads
from rhs.distributed import collectives
from rhs.distributed.mailbox import RemoteMailbox
from rhs.distributed.supervisor import (
    poll_stop,
)
from rhs.errors import UserError
from rhs.memory import keep_freed_memory
from rhs.metrics.retrieval import score
from rhs.models.embedder import Embedder
from rhs.storage.store import Store, is_url, open_store
from rhs.tracking.hardware import threads
from rhs.training import run_log
from rhs.training.checkpointer import Checkpointer, CheckpointSettings, TrainingStopped, resume
from rhs.training.components import (
    FailedOnAnotherRank,
    build_components,
    describe_batches,
    enable_determinism,
    settings_of,
)
from rhs.training.loop import train
from rhs.training.progress import Progress
from rhs.training.validation import embed


def ray_worker(config: dict) -> None:
    """One Ray Train worker; rank 0 also keeps the checkpoints and tells what happens."""
    import ray.train.torch

    mailbox: RemoteMailbox = config["mailbox"]
    params, cluster = config["params"], config["params"]["cluster"]
    device = ray.train.torch.get_device()
    torch.set_num_threads(threads())
    if not _joins(params, mailbox):
        return
    stopping = poll_stop(mailbox) if collectives.rank() == 0 else threading.Event()

    def tell(kind: str, what: object) -> None:
        if collectives.rank() == 0:
            mailbox.put(kind, what)

    tell("training", None)
    try:
        shards = Path(config["shards"])
        if is_url(cluster["storage"]):
            from rhs.data.remote_shards import local_shards

            cache = Path(cluster["cache_folder"])
            shards = local_shards(cluster["storage"], params["dataset"]["name"], cache)
        train_rank(
            params,
            shards,
            open_store(config["checkpoints"]),
            device,
            partial(tell, "epoch"),
            partial(tell, "line"),
            partial(tell, "steps"),
            stopping.is_set,
            config["owner"],
        )
    except TrainingStopped as stopped:
        tell("stopped", stopped.step)
    except UserError as error:
        # It would come again: not a failure for Ray to retry. All ranks have met it or, of one's
        # disk, heard of it.
        if not isinstance(error, FailedOnAnotherRank):
            mailbox.put("refusal", str(error))


def _joins(params: dict, mailbox: RemoteMailbox) -> bool:
    """Whether this worker takes part: an elastic cluster may have more than a batch divides by."""
    there = collectives.world_size()
    batch = params["train"]["classes"] * params["train"]["per_class"]
    working = max(count for count in range(1, there + 1) if batch % count == 0)
    joins = collectives.use_first_ranks(working)
    if working < there and collectives.rank() == 0 and joins:
        mailbox.put("line", f"{there} workers are there; a batch of {batch} divides by {working}")
    return joins


def train_rank(
    params: dict,
    shards: Path,
    checkpoints: Store,
    device: torch.device,
    report: Callable[[dict], None],
    say: Callable[[str], None],
    record: Callable[[list[dict]], None] | None = None,
    stopping: Callable[[], bool] = lambda: False,
    owner: str | None = None,
) -> tuple[Embedder, Progress]:
    """Everything one rank does; the process group, if any, is set up already.

    Args:
        report: takes each epoch's numbers, on every rank.
        say: takes lines for a person to read.
        record: takes the numbers of steps, on every rank.
        stopping: whether to end early, asked after each step on rank 0.
        owner: of the run's lock, see rhs.storage.lease.

    Raises:
        Stopped: on rank 0, which was to end early and has saved; the others wait for it in vain.
    """
    keep_freed_memory()
    enable_determinism(device)
    settings = settings_of(params)
    parts = build_components(params, shards, device, say)
    loader, trained = parts.loader, parts.trained
    for line in describe_batches(loader.plan):
        say(line)
    progress = resume(checkpoints, parts.checkpointed, loader.plan, device, say)
    keeper: Checkpointer | None = None
    if collectives.rank() == 0:
        often = CheckpointSettings.of(params["cluster"]["checkpoint"])
        keeper = Checkpointer(
            checkpoints, parts.checkpointed, loader.plan, often, say, stopping, owner
        )
    model: nn.Module = trained
    if collectives.world_size() > 1:
        # Buffers never change (see Embedder), so there is nothing to broadcast.
        model = DistributedDataParallel(
            trained, forward_sync_buffers=False, process_group=collectives.group()
        )

    def end_of_epoch(progress: Progress, times: dict[str, float]) -> None:
        row = progress.history[-1]
        if parts.val_images is not None:
            x_ND = embed(trained, parts.val_images, device, input_threads(params["cluster"]))
            if collectives.rank() == 0:
                scores = score(x_ND, parts.val_images.labels, [1], draws=0)
                row |= {f"val_{name}": scores.values[name] for name in ("recall@1", "map@r")}
        say(run_log.of_epoch(row | times, settings.epochs))
        report(row | times)
        if keeper is not None:
            keeper.save(progress)  # last: it may be what training ends with

    with keeper or nullcontext():
        train(
            model,
            parts.objective,
            parts.optimizer,
            loader,
            settings,
            progress,
            device,
            end_of_epoch,
            say,
            record,
            keeper,
        )
    return parts.embedder, progress
