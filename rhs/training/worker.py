"""The Ray Train run and what each of its workers does."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rhs import distributed
from rhs.cluster import connect
from rhs.data.loader import Images, in_order
from rhs.data.shards import ShardedImages, has_split
from rhs.data.source import input_threads, open_images
from rhs.errors import UserError
from rhs.methods.objective import build_objective
from rhs.models.embedder import Embedder, build_embedder
from rhs.retrieval.recall import recall_at_k
from rhs.run import Run, project
from rhs.stage import plain
from rhs.tracking import Tracker
from rhs.training import checkpoint, journal
from rhs.training.loop import Progress, train
from rhs.training.schedule import build_optimizer
from rhs.training.setup import labels_of, loader_of, settings_of, values_for


def fit(params: DictConfig, shards: Path, run: Run, tracker: Tracker) -> None:
    """Train with Ray Train; returns when the run's last checkpoint is written.

    The same call continues a run that was interrupted, on any number of workers.

    Args:
        params: as `check` has found them good.

    Raises:
        UserError: they turned out not to be, for instance because the loss diverged.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    cluster = params.cluster
    config = plain(params)
    # Workers start elsewhere than here.
    config["cluster"]["decoded_folder"] = str(project() / cluster.decoded_folder)
    found = checkpoint.load_latest(run.checkpoints)
    if found is not None and found[1]["epochs_done"] >= params.train.epochs:
        print(f"already trained: {run.checkpoints}")
        return
    connect(cluster)
    trainer = TorchTrainer(
        ray_worker,
        train_loop_config={
            "params": config,
            "shards": str(shards.resolve()),
            "checkpoints": str(run.checkpoints),
            "journal": str(run.journal),
            "times": str(run.times),
            "refusal": str(run.refusal),
            "tracker": tracker,
        },
        scaling_config=ScalingConfig(
            num_workers=cluster.num_workers,
            use_gpu=cluster.use_gpu,
            resources_per_worker=dict(cluster.resources_per_worker),
        ),
        torch_config=TorchConfig(backend="nccl" if cluster.use_gpu else "gloo"),
        run_config=RunConfig(
            name=run.name,
            storage_path=str(run.folder.parent / "ray"),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
        ),
    )
    run.refusal.unlink(missing_ok=True)
    with journal.shown(run.journal):
        trainer.fit()
    if run.refusal.exists():
        raise UserError(run.refusal.read_text())


def ray_worker(config: dict) -> None:
    """One Ray Train worker: rank 0 also keeps the checkpoints and reports to the tracker."""
    import ray.train
    import ray.train.torch

    def say(line: str) -> None:
        if distributed.rank() == 0:
            journal.write(Path(config["journal"]), line)

    def report(row: dict) -> None:
        if distributed.rank() == 0:
            with Path(config["times"]).open("a") as file:
                file.write(json.dumps(row) + "\n")
            try:
                config["tracker"].metrics(row, row["step"])
            except Exception as error:  # a database that is busy or gone is no reason to stop
                say(f"warning: epoch {row['epoch']} is missing in MLflow: {error}")
        ray.train.report(row)

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    device = ray.train.torch.get_device()
    shards, checkpoints = Path(config["shards"]), Path(config["checkpoints"])

    def record(steps: list[dict]) -> None:
        if distributed.rank() == 0:
            try:
                config["tracker"].steps(steps)
            except Exception as error:
                say(f"warning: the steps up to {steps[-1]['step']} are missing in MLflow: {error}")

    try:
        work(config["params"], shards, checkpoints, device, report, say, record)
    except UserError as error:
        # It would come again: not a failure for Ray to retry. All ranks have met it or, of one's
        # disk, heard of it.
        if not isinstance(error, Elsewhere):
            refusal = Path(config["refusal"])
            part = refusal.with_suffix(f".{distributed.rank()}")
            part.write_text(str(error))
            part.replace(refusal)


def work(
    params: dict,
    shards: Path,
    checkpoints: Path,
    device: torch.device,
    report: Callable[[dict], None],
    say: Callable[[str], None],
    record: Callable[[list[dict]], None] | None = None,
) -> tuple[Embedder, Progress]:
    """Everything one rank does; the process group, if any, is set up already.

    Args:
        report: takes each epoch's numbers, on every rank.
        say: takes lines for a person to read.
        record: takes the numbers of every step, epoch by epoch, on every rank.
    """
    # On a GPU some layers have no deterministic form: torch warns where it must use another.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # That also fills memory before its use, a guard that costs a fifth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    cluster, threads = params["cluster"], input_threads(params["cluster"])
    train_images, val_images = _open_both(shards, cluster, device)
    embedder = build_embedder(params["model"], params["seed"]).to(device)
    labels, names = labels_of(params, train_images)
    torch.manual_seed(params["seed"])  # signatures start at random
    objective = build_objective(params["method"])
    objective.prepare(len(names), embedder.dim, **values_for(train_images, names))
    objective.to(device)
    settings = settings_of(params)
    factors = {name: params["train"][name] for name in ("weight_decay", "head_lr")}
    optimizer = build_optimizer(embedder, objective, settings.lr, **factors)
    loader = loader_of(params, shards, train_images, labels, objective, embedder.image_size)
    say(
        f"{distributed.world_size()} worker(s), {loader.plan.steps} batches an epoch of "
        f"{loader.plan.classes} classes x {loader.plan.per_class} images"
    )
    if loader.plan.left_out:
        say(f"{loader.plan.left_out} images of the largest classes come in other epochs")
    progress = _resume(checkpoints, embedder, objective, optimizer, device, say)
    model: nn.Module = embedder
    if distributed.world_size() > 1:
        # Buffers never change (see Embedder), so there is nothing to broadcast.
        model = DistributedDataParallel(embedder, forward_sync_buffers=False)

    def end_of_epoch(progress: Progress, times: dict[str, float]) -> None:
        row = progress.history[-1]
        if val_images is not None:
            x_ND = embed(embedder, val_images, device, threads)
            if distributed.rank() == 0:
                row["val_recall@1"] = recall_at_k(x_ND, val_images.labels, [1])["recall@1"]
        if distributed.rank() == 0:
            tensors = checkpoint.pack(embedder, objective, optimizer)
            checkpoint.save(checkpoints, row["step"], tensors, vars(progress))
        say(_line(row | times, settings.epochs))
        report(row | times)

    train(
        model, objective, optimizer, loader, settings, progress, device, end_of_epoch, say, record
    )
    return embedder, progress


class Elsewhere(UserError):
    """Another rank met an error that this one did not."""


def _open_both(
    shards: Path, cluster: dict, device: torch.device
) -> tuple[ShardedImages, ShardedImages | None]:
    """The training and validation images, opened by every rank or by none: nodes' disks differ."""
    mine: UserError | None = None
    try:
        train = open_images(shards, "train", cluster)
        val = open_images(shards, "val", cluster) if has_split(shards, "val") else None
    except UserError as error:
        mine = error
    if float(distributed.all_reduce_sum(torch.tensor(float(mine is not None), device=device))):
        raise mine or Elsewhere("Another worker could not open its images.")
    return train, val


def embed(embedder: Embedder, images: Images, device: torch.device, threads: int = 1) -> np.ndarray:
    """Normalized float32 embeddings [N, D] of a split, the work shared among all ranks."""
    embedder.eval()
    share = -(-len(images) // distributed.world_size())
    start = share * distributed.rank()
    # Every rank embeds as many; the surplus at the very end is cut off after the gather.
    rows = [min(row, len(images) - 1) for row in range(start, start + share)]
    batch_size = 256 if device.type == "cuda" else 32  # small ones stay in a processor's cache
    batches = in_order(images, rows, embedder.image_size, batch_size, threads)
    x_bD = torch.cat([embedder.embed(batch.to(device)) for batch in batches])
    return distributed.gather(x_bD)[: len(images)].cpu().numpy()


def _resume(checkpoints: Path, embedder, objective, optimizer, device, say) -> Progress:
    """Continue from rank 0's newest checkpoint; others may still see an older one."""
    found = checkpoint.load_latest(checkpoints, say) if distributed.rank() == 0 else None
    newest = torch.tensor([found[1]["history"][-1]["step"] if found else 0])
    step = int(distributed.from_first(newest, device))
    if step == 0:
        return Progress()
    tensors, state = found or checkpoint.load(checkpoints, step)
    checkpoint.unpack(tensors, embedder, objective, optimizer)
    say(f"continuing after epoch {state['epochs_done']}")
    return Progress(**state)


def _line(row: dict, epochs: int) -> str:
    recall = f"  val Recall@1 {row['val_recall@1']:.1%}" if "val_recall@1" in row else ""
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.4f}{recall}  "
        f"{row['images_per_second']:,.0f} images/s"
    )
