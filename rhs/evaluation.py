"""Embedding whole splits with Ray Data, and scoring them."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from omegaconf import DictConfig
from tqdm import tqdm

from rhs.cluster import ordered_and_quiet, workers_of
from rhs.data.shards import ShardedImages, has_split, load_manifest
from rhs.models.embedder import build_embedder, load_config, load_embedder
from rhs.retrieval.recall import recall_at_k
from rhs.storage.atomic import whole_folder
from rhs.storage.object_store import ObjectStore
from rhs.storage.store import is_url


class BatchEmbedder:
    """One embedding worker of Ray Data.

    Args:
        model: the files of the trained model, by name: no other node need see its folder.
        untrained_seed: also embed with the model as it was before training from this seed.
    """

    def __init__(self, model: dict[str, bytes], untrained_seed: int | None):
        import torch

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with TemporaryDirectory() as folder:
            for name, data in model.items():
                Path(folder, name).write_bytes(data)
            embedders = {"trained": load_embedder(Path(folder))}
            config = load_config(Path(folder))
        if untrained_seed is not None:
            embedders["untrained"] = build_embedder(config, untrained_seed).eval()
        self.embedders = {name: embedder.to(self.device) for name, embedder in embedders.items()}

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        from rhs.data.decode import decode
        from rhs.data.transforms import view

        size = self.embedders["trained"].image_size
        pixels = np.stack([view(decode(data), size) for data in batch["image"]])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)
        made = {name: model.embed(images).cpu().numpy() for name, model in self.embedders.items()}
        return {"label": batch["label"], **made}


def evaluate(params: DictConfig, shards: Path, model: Path, out: Path) -> dict[str, dict]:
    """Recall@K on unseen classes: `val` (held out of training), `test`, and `untrained` (on test).

    Writes `<split>.npz` with `embeddings` [N, D] and `labels` [N], row for row as in the shards.

    Returns:
        {split: {"recall@K": share in [0, 1], ..., "queries": n, "left_out": n}}
    """
    ks = list(params.dataset.recall_at)
    splits = [split for split in ("val", "test") if has_split(shards, split)]
    seed = params.seed if params.evaluate.untrained else None
    metrics = {}
    with whole_folder(out) as folder:
        embedded = embed_splits(params, shards, splits, model, seed)
        for split, columns in embedded.items():
            x_ND, labels_N = columns["trained"], columns["label"]
            np.savez(folder / f"{split}.npz", embeddings=x_ND, labels=labels_N)
            queries_N = ShardedImages(shards, split).queries
            metrics[split] = recall_at_k(x_ND, labels_N, ks, queries_N)
            if split == "test" and seed is not None:
                metrics["untrained"] = recall_at_k(columns["untrained"], labels_N, ks, queries_N)
    return metrics


def embedding_pool(
    cluster: Mapping[str, Any], there: Mapping[str, float]
) -> tuple[int, int, dict[str, float]]:
    """Embedding workers to start with, and at most, and what each takes.

    They are `cluster.num_workers`, as far as they fit, and at least one.

    Args:
        there: the cluster's resources. One CPU of them is left for the readers, without which the
            workers would wait for ever.
    """
    least, most = workers_of(cluster)
    asked = cluster["resources_per_worker"]
    # Half, so that the readers that feed them find a processor too.
    each = {"CPU": asked.get("CPU", 1) / 2, "GPU": asked.get("GPU", 0)}
    free = {"CPU": there.get("CPU", 0) - 1, "GPU": there.get("GPU", 0)}
    fitting = [int(free[kind] / need) for kind, need in each.items() if need]
    most = max(1, min([most, *fitting]))
    if free["CPU"] >= 0:  # else it is a cluster that will grow
        each["CPU"] = min(each["CPU"], free["CPU"])
    return min(least, most), most, each


@contextmanager
def _quiet_about_restarts() -> Iterator[None]:
    from ray.util.annotations import RayDeprecationWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # of max_restarts
        yield


def embed_splits(
    params: DictConfig, shards: Path, splits: list[str], model: Path, untrained_seed: int | None
) -> dict[str, dict[str, np.ndarray]]:
    """{split: {"label": int64 [N], "trained": [N, D], "untrained": [N, D] if a seed is given}}.

    Rows are in shard order; embeddings are float32 and normalized. All splits go through Ray Data
    together: to start the workers takes longer than to embed a small split.
    """
    import ray.data

    listed = load_manifest(shards)["shards"]
    chosen = {split: [s for s in listed if s["file"].startswith(f"{split}-")] for split in splits}
    place, filesystem = str(shards.resolve()), None
    if is_url(storage := params.cluster.storage):  # nodes read them there
        filesystem, place = ObjectStore(f"{storage}/data/shards/{params.dataset.name}").for_arrow()
    files = [f"{place}/{s['file']}" for split in splits for s in chosen[split]]
    rows = [sum(shard["rows"] for shard in chosen[split]) for split in splits]
    weights = {path.name: path.read_bytes() for path in model.iterdir()}
    least, most, each = embedding_pool(params.cluster, ray.cluster_resources())
    parts = []
    with ordered_and_quiet(), tqdm(total=sum(rows), desc="embed", disable=None) as bar:
        images = ray.data.read_parquet(files, filesystem=filesystem).select_columns(
            ["image", "label"]
        )
        with _quiet_about_restarts():
            dataset = images.map_batches(
                BatchEmbedder,
                fn_constructor_args=(weights, untrained_seed),
                batch_size=params.evaluate.batch_size,
                # Those that a small data set leaves idle may stop.
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=least),
                num_cpus=each["CPU"],
                num_gpus=each["GPU"],
                max_restarts=0,  # with any, Ray prints an error about its own way to start them
            )
        for part in dataset.iter_batches(batch_size=None):
            parts.append(part)
            bar.update(len(part["label"]))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["label"] = columns["label"].astype(np.int64)
    ends = np.cumsum(rows)
    assert len(columns["label"]) == ends[-1], f"{ends[-1]} images, {len(columns['label'])} embedded"
    parted = {name: np.split(column, ends[:-1]) for name, column in columns.items()}
    return {s: {name: column[i] for name, column in parted.items()} for i, s in enumerate(splits)}
