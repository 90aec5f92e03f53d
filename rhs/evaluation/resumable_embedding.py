"""Embedding splits so that no work is lost: each shard's embeddings are kept as they are made.

They lie in a work folder of the run until the stage has ended, in files that are named after all
that they depend on. Whoever starts the stage again, after whatever ended it, embeds the rest.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from rhs.config.settings import Params
from rhs.data.embedding_files import Embeddings, read_embedded, write_embedded
from rhs.data.shards import load_manifest
from rhs.data.splits import RETRIEVAL
from rhs.distributed.ray_cluster import connect
from rhs.distributed.retries import retry_lost_workers
from rhs.distributed.worker_deaths import EMBEDDING
from rhs.errors import UserError
from rhs.evaluation import ray_embedding
from rhs.models.embedder import model_digest
from rhs.storage.atomic import atomic_folder
from rhs.storage.locks import locked
from rhs.storage.outputs import EMBEDDINGS

UNTRAINED = "untrained"
ON = "test"  # the split that the untrained network embeds, too
# What an embedding depends on, of this package.
CODE = (
    "config/instantiate.py",
    "data/decode.py",
    "data/transforms.py",
    "evaluation/ray_embedding.py",
    "models",
)
NAME = r"-\d{5}\.[0-9a-f]{16}\.parquet(\.[0-9a-f]{8}\.tmp)?$"  # of a file in the work folder
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")  # and of others


@dataclass(frozen=True)
class ShardEmbedding:
    """A shard, and where its embeddings are kept.

    Args:
        made: network ("trained", "untrained") -> file.
    """

    split: str
    file: str
    rows: int
    made: dict[str, Path]

    def there(self) -> bool:
        """Whether all of its files are whole; what is not is deleted."""
        there = [path for path in self.made.values() if path.exists()]
        for path in there:
            try:
                whole = len(read_embedded(path)) == self.rows
            except UserError:
                whole = False
            if not whole:
                print(f"{path} is damaged: its shard is embedded again")
                path.unlink()
                return False
        return len(there) == len(self.made)


def embed(
    params: Params, shards: Path, splits: Sequence[str], model: Path, work: Path
) -> dict[str, list[Path]]:
    """Embed splits, as far as `work` does not hold their embeddings.

    Args:
        work: an existing folder that nobody else uses meanwhile, see `kept`.

    Returns:
        {split: the files of its embeddings, one a shard, in order}, and under "untrained" those of
        the test split by the network as it was before training, where `evaluate.untrained` asks
        for them. Rows are as in the shards; embeddings are float32 and normalized.
    """
    pieces = _pieces(params, shards, splits, model, work)
    wanted = {path for piece in pieces for path in piece.made.values()}
    for path in set(_ours(work)) - wanted:  # of another model, or half written
        path.unlink()
    missing = [piece for piece in pieces if not piece.there()]
    if len(missing) < len(pieces):
        there = len(pieces) - len(missing)
        print(f"embedding {len(missing)} of {len(pieces)} shards, {there} are there", flush=True)
    if missing:
        connect(params.cluster)

        def rest() -> None:
            _embed(params, shards, [piece for piece in missing if not piece.there()], model)

        retry_lost_workers(rest, params.cluster.max_failures, "embedding", EMBEDDING)
    files = {split: [p.made["trained"] for p in pieces if p.split == split] for split in splits}
    untrained = [piece.made[UNTRAINED] for piece in pieces if UNTRAINED in piece.made]
    return files | ({UNTRAINED: untrained} if untrained else {})


@contextmanager
def work_folder(work: Path) -> Iterator[Path]:
    """Make the work folder, for one process at a time; it goes when the block ends well."""
    work.parent.mkdir(parents=True, exist_ok=True)
    lock = locked(
        work.with_name(f".{work.name}.lock"), f"another process is evaluating {work.parent.name}"
    )
    try:
        work.mkdir(exist_ok=True)
        yield work
        for path in _ours(work):
            path.unlink()
    finally:
        with suppress(OSError):  # that is not empty, or gone
            work.rmdir()
        # While it is held: who waits opens the path anew and takes no lock on a file without name.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _ours(work: Path) -> list[Path]:
    """The files of a work folder that this module made, the half written ones too."""
    return [path for path in work.iterdir() if re.search(NAME, path.name) and path.is_file()]


def publish(files: dict[str, list[Path]], out: Path) -> None:
    """Make the folder `out` of the embeddings, `<split>-00000.parquet` beside each shard."""
    with atomic_folder(out, EMBEDDINGS) as folder:
        for path in chain.from_iterable(files[split] for split in files if split != UNTRAINED):
            target = folder / f"{path.name.partition('.')[0]}.parquet"
            try:
                os.link(path, target)  # the disk holds them once
            except OSError:  # it is another disk, or one without links
                shutil.copy(path, target)


def _pieces(
    params: Params, shards: Path, splits: Sequence[str], model: Path, work: Path
) -> list[ShardEmbedding]:
    """All shards of the splits."""
    common = {
        "model": model_digest(model),
        "code": _code(),
        "packages": {name: version(name) for name in PACKAGES},
        "batch": params.evaluate.batch_size,
        "gpu": bool(params.cluster.resources_per_worker.get("GPU", 0)),
    }
    pieces = []
    for split in splits:
        for shard in load_manifest(shards)["shards"]:
            if not shard["file"].startswith(f"{split}-"):
                continue
            nets: dict[str, dict] = {"trained": {}}
            if split == ON and params.evaluate.untrained:
                nets[UNTRAINED] = {"seed": params.seed}
            made = {}
            for net, more in nets.items():
                what = json.dumps(common | more | {"shard": shard["sha256"], "net": net})
                digest = hashlib.sha256(what.encode()).hexdigest()[:16]
                prefix = "" if net == "trained" else f"{net}-"
                made[net] = work / f"{prefix}{Path(shard['file']).stem}.{digest}.parquet"
            pieces.append(ShardEmbedding(split, shard["file"], shard["rows"], made))
    return pieces


def _code() -> str:
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for file in [f for entry in CODE for f in (root / entry, *sorted((root / entry).glob("*.py")))]:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _embed(params: Params, shards: Path, missing: list[ShardEmbedding], model: Path) -> None:
    """Embed shards, and write the embeddings of each as soon as they are complete."""
    tasks = [
        ray_embedding.Task(piece.file, piece.rows, UNTRAINED in piece.made) for piece in missing
    ]
    parts: list[dict[str, NDArray[np.float32]]] = []
    names = {"trained": model_digest(model), UNTRAINED: f"{UNTRAINED}, seed {params.seed}"}
    done = 0
    with tqdm(total=sum(task.rows for task in tasks), desc="embed", disable=None) as bar:
        for task, made in ray_embedding.embeddings(params, shards, tasks, model):
            if task != done:
                raise _other_rows(shards, missing[min(task, done)])
            parts.append(made)
            bar.update(len(made["trained"]))
            piece = missing[task]
            if sum(len(part["trained"]) for part in parts) == piece.rows:
                about = _about(shards / piece.file)
                if len(about[0]) != piece.rows:
                    raise _other_rows(shards, piece)
                for net, path in piece.made.items():
                    x_ND = np.concatenate([part[net] for part in parts])
                    write_embedded(path, Embeddings(x_ND, *about, names[net]))
                parts, done = [], done + 1
    if done < len(missing):
        raise _other_rows(shards, missing[done])


def _other_rows(shards: Path, piece: ShardEmbedding) -> UserError:
    return UserError(
        f"{shards / piece.file} has not the {piece.rows:,} images that its manifest says: run the "
        "preprocess stage again."
    )


def _about(shard: Path) -> tuple[NDArray[np.int64], list[str], list[str], NDArray[np.bool_] | None]:
    """Labels, names, class names and queries of a shard's images, see `Embedded`."""
    columns = pq.read_table(shard, columns=["label", "name", "class_name", "split"])
    sides = np.array(columns["split"].to_pylist(), dtype=object)
    return (
        columns["label"].to_numpy().astype(np.int64),
        columns["name"].to_pylist(),
        columns["class_name"].to_pylist(),
        sides == "query" if np.isin(sides, RETRIEVAL).any() else None,
    )
