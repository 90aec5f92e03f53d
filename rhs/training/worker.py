"""The Ray Train run and what each of its workers does."""

import json
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rhs import distributed
from rhs.cluster import connect, trainer_settings
from rhs.data.source import input_threads
from rhs.errors import UserError
from rhs.machine import threads
from rhs.memory import keep_freed_memory
from rhs.models.embedder import Embedder
from rhs.retrieval.scores import score
from rhs.run import Run, project
from rhs.stage import plain
from rhs.storage.store import Store, is_url, open_store
from rhs.tracking.tracker import NullTracker
from rhs.training import checkpoint, journal
from rhs.training.embed import embed
from rhs.training.keeper import Keeper, Often, Stopped, resume
from rhs.training.loop import train
from rhs.training.mailbox import RemoteMailbox
from rhs.training.parts import about, assemble, be_deterministic
from rhs.training.progress import Progress
from rhs.training.setup import Elsewhere, settings_of
from rhs.training.supervise import deaths_told, heeding, listen, supervise


def fit(
    params: DictConfig, shards: Path, run: Run, tracker: NullTracker, owner: str | None = None
) -> None:
    """Train with Ray Train; returns when the run's last checkpoint is written.

    The same call continues a run that was interrupted, on any number of workers.

    Args:
        params: as `check` has found them good.
        owner: of the run's lock, see rhs.storage.alone.

    Raises:
        UserError: they turned out not to be, for instance because the loss diverged.
        Interrupted: a signal asked this process to end.
    """
    from ray.train.torch import TorchTrainer

    if _is_trained(run, params.train.epochs):
        print(f"already trained: {run.checkpoints}")
        return
    connect(params.cluster)
    mailbox = RemoteMailbox()
    config = plain(params)
    # Workers start elsewhere than here.
    config["cluster"]["decoded_folder"] = str(project() / params.cluster.decoded_folder)
    given = {"params": config, "checkpoints": run.checkpoints, "mailbox": mailbox, "owner": owner}
    trainer = TorchTrainer(
        ray_worker,
        train_loop_config=given | {"shards": str(shards.resolve())},
        **trainer_settings(params.cluster, run),
    )
    refusals: list[str] = []
    deliver: dict[str, Callable[[Any], None]] = {
        "line": partial(journal.write, run.journal),
        "epoch": partial(_epoch_is_done, run.times, tracker),
        "steps": tracker.steps,
        "refusal": refusals.append,
    }
    with heeding() as signals, deaths_told(params.cluster.max_failures):
        try:
            supervise(trainer.fit, mailbox, deliver, signals, params.cluster.grace_seconds)
        finally:
            mailbox.close()
    if refusals:
        raise UserError(refusals[0])


def _is_trained(run: Run, epochs: int) -> bool:
    store = open_store(run.checkpoints)
    if checkpoint.ends_at(store) < epochs:
        return False  # without reading its weights
    found = checkpoint.load_latest(store)
    return found is not None and found[1]["epochs_done"] >= epochs


def _epoch_is_done(times: Path, tracker: NullTracker, row: dict) -> None:
    tracker.metrics(row, row["step"])
    journal.append(times, json.dumps(row))


def ray_worker(config: dict) -> None:
    """One Ray Train worker; rank 0 also keeps the checkpoints and tells what happens."""
    import ray.train.torch

    mailbox: RemoteMailbox = config["mailbox"]
    params, cluster = config["params"], config["params"]["cluster"]
    device = ray.train.torch.get_device()
    torch.set_num_threads(threads())
    if not _joins(params, mailbox):
        return
    stopping = listen(mailbox) if distributed.rank() == 0 else threading.Event()

    def tell(kind: str, what: object) -> None:
        if distributed.rank() == 0:
            mailbox.put(kind, what)

    tell("training", None)
    try:
        shards = Path(config["shards"])
        if is_url(cluster["storage"]):
            from rhs.data.travel import local_shards

            cache = Path(cluster["decoded_folder"])
            shards = local_shards(cluster["storage"], params["dataset"]["name"], cache)
        work(
            params, shards, open_store(config["checkpoints"]), device, partial(tell, "epoch"),
            partial(tell, "line"), partial(tell, "steps"), stopping.is_set, config["owner"],
        )  # fmt: skip
    except Stopped as stopped:
        tell("stopped", stopped.step)
    except UserError as error:
        # It would come again: not a failure for Ray to retry. All ranks have met it or, of one's
        # disk, heard of it.
        if not isinstance(error, Elsewhere):
            mailbox.put("refusal", str(error))


def _joins(params: dict, mailbox: RemoteMailbox) -> bool:
    """Whether this worker takes part: an elastic cluster may have more than a batch divides by."""
    there = distributed.world_size()
    batch = params["train"]["classes"] * params["train"]["per_class"]
    working = max(count for count in range(1, there + 1) if batch % count == 0)
    joins = distributed.only_first(working)
    if working < there and distributed.rank() == 0 and joins:
        mailbox.put("line", f"{there} workers are there; a batch of {batch} divides by {working}")
    return joins


def work(
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
        owner: of the run's lock, see rhs.storage.alone.

    Raises:
        Stopped: on rank 0, which was to end early and has saved; the others wait for it in vain.
    """
    keep_freed_memory()
    be_deterministic(device)
    settings = settings_of(params)
    parts = assemble(params, shards, device, say)
    loader, trained = parts.loader, parts.trained
    for line in about(loader.plan):
        say(line)
    progress = resume(checkpoints, parts.kept, loader.plan, device, say)
    keeper: Keeper | None = None
    if distributed.rank() == 0:
        often = Often.of(params["cluster"]["checkpoint"])
        keeper = Keeper(checkpoints, parts.kept, loader.plan, often, say, stopping, owner)
    model: nn.Module = trained
    if distributed.world_size() > 1:
        # Buffers never change (see Embedder), so there is nothing to broadcast.
        model = DistributedDataParallel(
            trained, forward_sync_buffers=False, process_group=distributed.group()
        )

    def end_of_epoch(progress: Progress, times: dict[str, float]) -> None:
        row = progress.history[-1]
        if parts.val_images is not None:
            x_ND = embed(trained, parts.val_images, device, input_threads(params["cluster"]))
            if distributed.rank() == 0:
                scores = score(x_ND, parts.val_images.labels, [1], draws=0)
                row |= {f"val_{name}": scores.values[name] for name in ("recall@1", "map@r")}
        say(journal.of_epoch(row | times, settings.epochs))
        report(row | times)
        if keeper is not None:
            keeper.save(progress)  # last: it may be what training ends with

    with keeper or nullcontext():
        train(
            model, parts.objective, parts.optimizer, loader, settings, progress, device,
            end_of_epoch, say, record, keeper,
        )  # fmt: skip
    return parts.embedder, progress
