"""Train: shards -> models/<name>/. Run it again after any interruption and it continues."""

from pathlib import Path

from rhs.config.settings import Params
from rhs.data.remote_shards import find_shards
from rhs.data.shards import load_manifest
from rhs.models.remote_models import publish_model
from rhs.run import identify
from rhs.stage import stage
from rhs.storage.lease import exclusive
from rhs.storage.store import is_url, open_store
from rhs.tracking.tracker import tracked
from rhs.training.driver import fit
from rhs.training.export import export
from rhs.training.preflight import check


def main(params: Params) -> None:
    shards = find_shards(params)
    manifest = load_manifest(shards)
    # Before the run is recorded anywhere: a mistake is no run.
    check(params, shards)
    run = identify(params, manifest["digest"])
    print(f"run {run.name}")
    with (
        exclusive(open_store(run.checkpoints), f"run {run.name}") as owner,
        tracked(params, run, manifest, system=True) as tracker,
    ):
        fit(params, shards, run, tracker, owner)
    out = Path("models", params.dataset.name)
    export(params, run, out)
    if is_url(params.cluster.storage):
        publish_model(out, params.cluster.storage)


if __name__ == "__main__":
    stage(main)
