"""The parameters of a run, typed: each field names its type, and the check that it has to pass.

A class is a group of `conf/`. `rhs.config.schema.read_params` checks a tree of parameters and makes
one `Params` of it, when a stage starts. What a `_target_` describes stays a dict, which is checked
where the object is made: see `rhs.config.target_checks`.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

from rhs.config.value_checks import (
    Rule,
    bounds,
    classes,
    expression,
    flag,
    jitter,
    label,
    mapping,
    maybe,
    one_of,
    path,
    real,
    several,
    storage,
    text,
    validation,
    whole,
    workers,
)

BIG = 10**6  # of what is counted: more is a slip of the finger
DAY = 86_400  # seconds
SEEDS = 2 * 10**9  # faiss and scikit-learn take 32 bits, and some are counted up from it


class Target(NamedTuple):
    """A group that `_target_` and its signature describe, beside the keys of `also`."""

    also: dict[str, Rule]


@dataclass(frozen=True)
class AugmentConfig:
    """`dataset.augment`: how training images are varied."""

    scale: Annotated[list[float], bounds(1.0)]
    ratio: Annotated[list[float], bounds(1e6)]
    flip: Annotated[bool, flag]
    jitter: Annotated[dict[str, float] | None, maybe(jitter)]


@dataclass(frozen=True)
class DatasetConfig:
    """`dataset`: which images, and how they are split."""

    name: Annotated[str, label]
    source: Annotated[str | int, path]
    fetch: Annotated[dict[str, Any], Target({})]
    train_classes: Annotated[list[str | int] | str | None, classes]
    test_classes: Annotated[list[str | int] | str | None, classes]
    validation: Annotated[float, validation]
    copies_across_classes: Annotated[str, one_of("refuse", "keep")]
    recall_at: Annotated[list[int], several(whole(1, 10**9), "[1, 2, 4, 8]")]
    coarse: Annotated[str | None, maybe(expression)]
    augment: AugmentConfig


@dataclass(frozen=True)
class FetchConfig:
    """`fetch`: how published files come to this machine."""

    folder: Annotated[str | int, path]
    mirror: Annotated[str | int | None, maybe(path)]
    retries: Annotated[int, whole(0, BIG)]
    timeout: Annotated[float, real(above=0, most=DAY)]


@dataclass(frozen=True)
class PreprocessConfig:
    """`preprocess`: what becomes of each image."""

    short_side: Annotated[int, whole(2, 65_535)]  # less shows nothing, and no JPEG has more
    quality: Annotated[int, whole(1, 100)]
    max_pixels: Annotated[int, whole(1)]
    max_bad_fraction: Annotated[float, real(0, 1)]
    rows_per_shard: Annotated[int, whole(1, 10**9)]


@dataclass(frozen=True)
class ModelConfig:
    """`model`: the network, and the images that it takes."""

    name: Annotated[str, label]
    image_size: Annotated[int, whole(1, 4096)]
    dim: Annotated[int, whole(1, 65_536)]
    mean: Annotated[list[float], several(real(0, 1), "[0.5, 0.5, 0.5]", count=3)]
    std: Annotated[list[float], several(real(above=0, most=10), "[0.5, 0.5, 0.5]", count=3)]
    trunk: Annotated[dict[str, Any], Target({})]


@dataclass(frozen=True)
class TrainConfig:
    """`train`: batches, epochs and learning rates."""

    classes: Annotated[int, whole(1, BIG)]
    per_class: Annotated[int, whole(1, BIG)]
    epochs: Annotated[int, whole(0, BIG)]  # 0: a study scores the untrained network
    lr: Annotated[float, real(above=0)]
    warmup: Annotated[float, real(0)]  # steps, or below 1 a share of all steps
    weight_decay: Annotated[float, real(0)]
    head_lr: Annotated[float, real(above=0)]
    precision: Annotated[str, one_of("float32", "bfloat16")]
    trunk: Annotated[str, one_of("trained", "frozen")]
    select: Annotated[str, one_of("last", "best", "best_map@r")]

    def warmup_steps(self, total: int) -> int:
        """Steps of the warm-up, of `total` in all."""
        return int(self.warmup * total) if self.warmup < 1 else int(self.warmup)


@dataclass(frozen=True)
class EvaluateConfig:
    """`evaluate`: embedding and scoring."""

    batch_size: Annotated[int, whole(1, 65_536)]
    untrained: Annotated[bool, flag]
    bootstrap: Annotated[int, whole(0, BIG)]
    nmi_seeds: Annotated[int, whole(0, BIG)]
    memory_mib: Annotated[int, whole(16, 2**24)]


@dataclass(frozen=True)
class HNSWConfig:
    """`index.hnsw`, in faiss's words."""

    M: Annotated[int, whole(4, 4096)]
    ef_construction: Annotated[int, whole(4, 4096)]
    ef_search: Annotated[int, whole(4, 4096)]


@dataclass(frozen=True)
class IVFPQConfig:
    """`index.ivf_pq`, in faiss's words."""

    nlist: Annotated[int | None, maybe(whole(1, 2**20))]
    nprobe: Annotated[int, whole(1, 2**20)]
    m: Annotated[int | None, maybe(whole(1, 2**20))]


@dataclass(frozen=True)
class IndexConfig:
    """`index`: of the embeddings, to search in."""

    splits: Annotated[list[str], several(one_of("train", "val", "test"), "[train, val, test]")]
    kind: Annotated[str, one_of("auto", "flat", "hnsw", "ivf_pq")]
    flat_up_to: Annotated[int, whole(0, 2**31 - 1)]
    hnsw_up_to: Annotated[int, whole(0, 2**31 - 1)]
    hnsw: HNSWConfig
    ivf_pq: IVFPQConfig
    thumbnail: Annotated[int, whole(0, 4096)]
    seed: Annotated[int, whole(0, SEEDS)]


@dataclass(frozen=True)
class CheckpointConfig:
    """`cluster.checkpoint`: how often they are written, and how many stay beside the best."""

    every_seconds: Annotated[float | None, maybe(real(above=0))]
    every_steps: Annotated[int | None, maybe(whole(1))]
    keep: Annotated[int, whole(1, BIG)]


@dataclass(frozen=True)
class ClusterConfig:
    """`cluster`: where a run is computed, and by which way images come; results do not change."""

    address: Annotated[str | None, maybe(text)]
    num_cpus: Annotated[int | None, maybe(whole(1, BIG))]
    num_workers: Annotated[int | list[int], workers]
    use_gpu: Annotated[bool, flag]
    resources_per_worker: Annotated[dict[str, float], mapping(real(0, BIG), "{CPU: 1}")]
    max_failures: Annotated[int, whole(-1, BIG)]
    checkpoint: CheckpointConfig
    grace_seconds: Annotated[float, real(above=0, most=DAY)]
    elastic_seconds: Annotated[float, real(above=0, most=DAY)]
    storage: Annotated[str | None, maybe(storage)]
    input: Annotated[str, one_of("auto", "decoded", "shards", "ray")]
    input_threads: Annotated[int | None, maybe(whole(1, 1024))]
    cache_folder: Annotated[str, text]
    decoded_gib: Annotated[float, real(0)]
    gallery_shards: Annotated[int | None, maybe(whole(1, BIG))]


@dataclass(frozen=True)
class TrackingConfig:
    """`tracking`: by MLflow."""

    enabled: Annotated[bool, flag]
    experiment: Annotated[str | None, maybe(text)]
    registered_model: Annotated[str | None, maybe(text)]


@dataclass(frozen=True)
class Params:
    """Every parameter of a run; `dataclasses.asdict` is the tree that it was read from."""

    dataset: DatasetConfig
    fetch: FetchConfig
    preprocess: PreprocessConfig
    model: ModelConfig
    method: Annotated[dict[str, Any], Target({"name": label})]
    train: TrainConfig
    evaluate: EvaluateConfig
    index: IndexConfig
    cluster: ClusterConfig
    tracking: TrackingConfig
    seed: Annotated[int, whole(0, SEEDS)]

    def with_cluster(self, **changes: Any) -> "Params":
        """A copy, with these values of `cluster`."""
        return replace(self, cluster=replace(self.cluster, **changes))
