"""The Ray Train run and what each of its workers does."""

import threading
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rhs.config.settings import Params
from rhs.data.open_images import input_threads
from rhs.distributed import collectives
from rhs.distributed.mailbox import RemoteMailbox
from rhs.distributed.supervisor import poll_stop
from rhs.errors import UserError
from rhs.memory import keep_freed_memory
from rhs.metrics.retrieval import score
from rhs.models.embedder import Embedder, Head
from rhs.storage.store import Store, is_url, open_store
from rhs.tracking.hardware import threads
from rhs.training import run_log
from rhs.training.checkpointer import Checkpointer, TrainingStopped, resume
from rhs.training.components import (
    Components,
    FailedOnAnotherRank,
    build_components,
    describe_batches,
    enable_determinism,
)
from rhs.training.hooks import RunHooks
from rhs.training.loop import train
from rhs.training.progress import Progress
from rhs.training.validation import embed


def ray_worker(config: dict) -> None:
    """One Ray Train worker; rank 0 also keeps the checkpoints and tells what happens."""
    import ray.train.torch

    mailbox: RemoteMailbox = config["mailbox"]
    params: Params = config["params"]
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
        if is_url(storage := params.cluster.storage):
            from rhs.data.remote_shards import local_shards

            cache = Path(params.cluster.cache_folder)
            shards = local_shards(storage, params.dataset.name, cache)
        hooks = RunHooks(
            partial(tell, "epoch"), partial(tell, "line"), partial(tell, "steps"), stopping.is_set
        )
        checkpoints = open_store(config["checkpoints"])
        train_rank(params, shards, checkpoints, device, hooks, config["owner"])
    except TrainingStopped as stopped:
        tell("stopped", stopped.step)
    except UserError as error:
        # It would come again: not a failure for Ray to retry. All ranks have met it or, of one's
        # disk, heard of it.
        if not isinstance(error, FailedOnAnotherRank):
            mailbox.put("refusal", str(error))


def _joins(params: Params, mailbox: RemoteMailbox) -> bool:
    """Whether this worker takes part: an elastic cluster may have more than a batch divides by."""
    workers, batch = collectives.world_size(), params.train.classes * params.train.per_class
    working = max(count for count in range(1, workers + 1) if batch % count == 0)
    joins = collectives.use_first_ranks(working)
    if working < workers and collectives.rank() == 0 and joins:
        mailbox.put("line", f"{workers} workers are there; a batch of {batch} divides by {working}")
    return joins


def train_rank(
    params: Params,
    shards: Path,
    checkpoints: Store,
    device: torch.device,
    hooks: RunHooks,
    owner: str | None = None,
) -> tuple[Embedder, Progress]:
    """Everything one rank does; the process group, if any, is set up already.

    Args:
        owner: of the run's lock, see rhs.storage.lease.

    Raises:
        TrainingStopped: on rank 0, which was to end early and has saved; the others wait for it in
            vain.
    """
    keep_freed_memory()
    enable_determinism(device)
    parts = build_components(params, shards, device, hooks.say)
    plan = parts.loader.plan
    for line in describe_batches(plan):
        hooks.say(line)
    progress = resume(checkpoints, parts.checkpointed, plan, device, hooks.say)
    checkpointer: Checkpointer | None = None
    if collectives.rank() == 0:
        often = params.cluster.checkpoint
        checkpointer = Checkpointer(
            checkpoints, parts.checkpointed, plan, often, hooks, owner=owner
        )

    def end_of_epoch(progress: Progress, times: dict[str, float]) -> None:
        row = progress.history[-1]
        row |= _validation_scores(parts, device, input_threads(params.cluster))
        hooks.say(run_log.of_epoch(row | times, params.train.epochs))
        hooks.report(row | times)
        if checkpointer is not None:
            checkpointer.save(progress)  # last: it may be what training ends with

    with checkpointer or nullcontext():
        train(
            _distributed(parts.trained),
            parts.objective,
            parts.optimizer,
            parts.loader,
            params.train,
            progress,
            seed=params.seed,
            device=device,
            end_of_epoch=end_of_epoch,
            hooks=hooks,
            checkpointer=checkpointer,
        )
    return parts.embedder, progress


def _distributed(trained: Embedder | Head) -> nn.Module:
    """The model, with gradients averaged over all ranks."""
    if collectives.world_size() == 1:
        return trained
    # Buffers never change (see Embedder), so there is nothing to broadcast.
    return DistributedDataParallel(
        trained, forward_sync_buffers=False, process_group=collectives.group()
    )


def _validation_scores(parts: Components, device: torch.device, threads: int) -> dict[str, float]:
    """Of the held-out classes, on rank 0; {} where there are none. Every rank embeds its share."""
    if parts.val_images is None:
        return {}
    x_ND = embed(parts.trained, parts.val_images, device, threads)
    if collectives.rank() != 0:
        return {}
    scores = score(x_ND, parts.val_images.labels, [1], draws=0)
    return {f"val_{name}": scores.values[name] for name in ("recall@1", "map@r")}
