"""Train: shards -> models/<name>/. Run it again after any interruption and it continues."""

from pathlib import Path

from omegaconf import DictConfig

from rhs.data.shards import load_manifest
from rhs.run import identify
from rhs.stage import plain, stage
from rhs.tracking import tracked
from rhs.training.export import export
from rhs.training.setup import check
from rhs.training.worker import fit


def main(params: DictConfig) -> None:
    shards = Path("data/shards", params.dataset.name)
    manifest = load_manifest(shards)
    # Before the run is recorded anywhere: a mistake is no run.
    check(plain(params), shards, params.cluster.num_workers)
    run = identify(params, manifest["digest"])
    print(f"run {run.name}")
    with tracked(params, run, manifest, system=True) as tracker:
        fit(params, shards, run, tracker)
    export(params, run, Path("models", params.dataset.name))


if __name__ == "__main__":
    stage(main)
