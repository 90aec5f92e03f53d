"""Parameters, values and targets that had another name before: who still has the old is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

KEYS = {
    "cluster.decoded_folder": "cluster.cache_folder",
    "method.plain_weight": "method.original_weight",
    "index.hnsw.links": "index.hnsw.M",
    "index.hnsw.build_width": "index.hnsw.ef_construction",
    "index.hnsw.search_width": "index.hnsw.ef_search",
    "index.ivf_pq.lists": "index.ivf_pq.nlist",
    "index.ivf_pq.probes": "index.ivf_pq.nprobe",
    "index.ivf_pq.code_bytes": "index.ivf_pq.m",
}
# By the last part of the parameter's path.
VALUES = {
    "only": {"nearer": "same_side"},
    "_target_": {
        "rhs.data.hard_plan.HardPlan": "rhs.data.hard_class_sampler.HardClassBatchSampler",
        "rhs.methods.batch_mining.BatchMining": "rhs.methods.mining.batch.BatchMiner",
        "rhs.methods.generators.Rotation": "rhs.methods.generators.rotation.Rotation",
        "rhs.methods.generators.Symmetric": "rhs.methods.generators.symmetric.Symmetric",
        "rhs.methods.intra_class.IntraClass": "rhs.methods.generators.intra_class.IntraClass",
        "rhs.methods.pair_mining.PairMining": "rhs.methods.mining.pairs.PairMiner",
        "rhs.methods.pml.of_loss": "rhs.methods.pml.pml_objective",
        "rhs.methods.together.Together": "rhs.methods.generators.combined.CombinedGenerators",
    },
}


def old_names(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The path of each parameter beneath `name` with an old name or value, and the sentence."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            full = f"{name}.{key}".lstrip(".")
            if full in KEYS:
                yield full, f"{full} is called {KEYS[full]} now: rename it."
            yield from old_names(full, inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from old_names(name, inner)
    elif isinstance(value, str):
        new = VALUES.get(name.rpartition(".")[2], {}).get(value)
        if new is not None:
            yield name, f"{name} is {value!r}, which is called {new!r} now: write that."
