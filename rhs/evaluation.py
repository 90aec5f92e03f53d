"""Embedding whole splits with Ray Data, and scoring them."""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from tqdm import tqdm

from rhs.atomic import whole_folder
from rhs.cluster import ordered_and_quiet
from rhs.data.shards import has_split, load_manifest
from rhs.models.embedder import build_embedder, load_config, load_embedder
from rhs.retrieval.recall import recall_at_k


class BatchEmbedder:
    """One embedding worker of Ray Data.

    Args:
        model: folder of the trained model.
        untrained_seed: embed with the model as it was before training from this seed instead.
    """

    def __init__(self, model: str, untrained_seed: int | None):
        import torch

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if untrained_seed is None:
            embedder = load_embedder(Path(model))
        else:
            embedder = build_embedder(load_config(Path(model)), untrained_seed).eval()
        self.embedder = embedder.to(self.device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        from rhs.data.images import decode
        from rhs.data.transforms import view

        size = self.embedder.image_size
        pixels = np.stack([view(decode(data), size) for data in batch["image"]])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)
        return {"embedding": self.embedder.embed(images).cpu().numpy(), "label": batch["label"]}


def evaluate(params: DictConfig, shards: Path, model: Path, out: Path) -> dict[str, dict]:
    """Recall@K on unseen classes: `val` (held out of training), `test`, and `untrained` (on test).

    Writes `<split>.npz` with `embeddings` [N, D] and `labels` [N], row for row as in the shards.

    Returns:
        {split: {"recall@K": share in [0, 1], ..., "queries": n, "left_out": n}}
    """
    ks = list(params.dataset.recall_at)
    metrics = {}
    with whole_folder(out) as folder:
        for split in ("val", "test"):
            if has_split(shards, split):
                x_ND, labels_N = embed_split(params, shards, split, model)
                np.savez(folder / f"{split}.npz", embeddings=x_ND, labels=labels_N)
                metrics[split] = recall_at_k(x_ND, labels_N, ks)
    if params.evaluate.untrained:
        x_ND, labels_N = embed_split(params, shards, "test", model, params.seed)
        metrics["untrained"] = recall_at_k(x_ND, labels_N, ks)
    return metrics


def embed_split(
    params: DictConfig, shards: Path, split: str, model: Path, untrained_seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Normalized embeddings [N, D] and labels [N] of a split, in shard order."""
    import ray.data

    chosen = [s for s in load_manifest(shards)["shards"] if s["file"].startswith(f"{split}-")]
    cluster = params.cluster
    parts = []
    total = sum(shard["rows"] for shard in chosen)
    what = split if untrained_seed is None else f"{split}, untrained"
    with ordered_and_quiet(), tqdm(total=total, desc=f"embed {what}", disable=None) as bar:
        dataset = ray.data.read_parquet(
            [str((shards / shard["file"]).resolve()) for shard in chosen],
            columns=["image", "label"],
        ).map_batches(
            BatchEmbedder,
            fn_constructor_args=(str(model.resolve()), untrained_seed),
            batch_size=params.evaluate.batch_size,
            compute=ray.data.ActorPoolStrategy(size=cluster.num_workers),
            # Half, so that the readers that feed them find a processor too.
            num_cpus=cluster.resources_per_worker.CPU / 2,
            num_gpus=cluster.resources_per_worker.get("GPU", 0),
        )
        for part in dataset.iter_batches(batch_size=None):
            parts.append(part)
            bar.update(len(part["label"]))
    return (
        np.concatenate([part["embedding"] for part in parts]),
        np.concatenate([part["label"] for part in parts]).astype(np.int64),
    )
