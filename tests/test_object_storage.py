"""Training with nothing but an object store that nodes share."""

import json
import signal

import pytest
from driver import LONG, Driver
from rank_jobs import final_tensors, train_until
from resume_checks import assert_bit_equal
from s3_server import BUCKET, s3_server
from tiny_project import small_params

from rhs.data.remote_shards import publish_shards
from rhs.models.embedder import load_embedder
from rhs.storage.store import open_store
from rhs.training import checkpoint

STORAGE = f"cluster.storage={BUCKET}/rhs"


@pytest.fixture
def store():
    with s3_server():
        yield open_store(f"{BUCKET}/rhs")


@pytest.mark.slow
def test_a_run_moves_from_machine_to_machine(store, gloo_pool, tiny_shards, tmp_path):
    publish_shards(tiny_shards, store.location, "glyphs")
    machines = []
    for name in ("first", "second", "third"):
        machines.append(tmp_path / name)
        machines[-1].mkdir()
    first = Driver(machines[0], None, STORAGE)
    first.wait_for("epoch 2/")
    first.process.send_signal(signal.SIGTERM)
    assert "stopped after step" in first.ends(143)
    assert not list(machines[0].glob("runs/*/checkpoints"))

    second = Driver(machines[1], None, STORAGE)
    said = second.ends(0)
    assert "continuing after" in said
    assert "model put to s3://bucket/rhs/models/glyphs" in said
    (run,) = {path.parent.name for path in machines[1].glob("runs/*/log.txt")}
    tensors, state = checkpoint.load_latest(open_store(f"{store.location}/runs/{run}/checkpoints"))

    config = small_params(*LONG)
    gloo_pool.run(train_until, 2, config, tiny_shards, tmp_path / "straight")
    straight, expected = final_tensors(tmp_path / "straight")
    assert state == expected
    assert_bit_equal(straight, {name: value.numpy() for name, value in tensors.items()})

    third = Driver(machines[2], None, STORAGE)
    assert "already trained" in third.ends(0)
    third.start("evaluate")
    assert "test  recall@1" in third.ends(0)
    metrics = json.loads((machines[2] / "metrics.json").read_text())
    assert metrics["test"]["recall@1"] > metrics["untrained"]["recall@1"] - 0.1
    weights = [load_embedder(m / "models/glyphs").state_dict() for m in machines[1:]]
    assert_bit_equal(*({k: v.numpy() for k, v in w.items()} for w in weights))
