"""A lost worker costs its work once more, as often as the cluster's settings allow."""

import os

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayTaskError
from tiny_project import composed, small_params

from rhs.data.embedding_files import read_files
from rhs.distributed.retries import retry_lost_workers
from rhs.errors import UserError
from rhs.evaluation import ray_embedding, resumable_embedding

SHARDS = ["val-00000.parquet", "val-00001.parquet"]


def failing(errors: list[Exception]):
    left = list(errors)

    def work() -> str:
        if left:
            raise left.pop(0)
        return "made"

    return work


@pytest.mark.parametrize("most", [2, 3, -1])
def test_lost_workers_are_survived_and_told(most, capsys):
    lost = [ActorDiedError(), NodeDiedError("gone\nmore")]
    assert retry_lost_workers(failing(lost), most, "embedding", "less") == "made"
    assert capsys.readouterr().out.splitlines() == [
        "embedding: a worker was lost, its work is done again (killed, by the system where memory "
        "was short, or crashed)",
        "embedding: a worker was lost, its work is done again (its node was lost)",
    ]


@pytest.mark.parametrize("most", [0, 1])
def test_more_lost_workers_than_allowed_are_one_sentence(most, capsys):
    lost = [OutOfMemoryError("Memory on the node was low")] * (most + 1)
    with pytest.raises(UserError) as told:
        retry_lost_workers(failing(lost), most, "embedding", "a smaller batch")
    assert str(told.value) == (
        f"embedding: workers were lost more often than cluster.max_failures = {most} allows, the "
        "last one so: Ray ended it, as its node's memory was full; less memory is needed with a "
        "smaller batch. The same command continues."
    )
    assert capsys.readouterr().out.count("\n") == most


def test_other_errors_stay_as_they_are(capsys):
    unmade = ActorDiedError(RayTaskError("__init__", "no such weights", KeyError("x")))
    for error in (UserError("a sentence"), KeyError("x"), unmade):
        with pytest.raises(type(error)) as raised:
            retry_lost_workers(failing([error]), 5, "embedding", "less")
        assert raised.value is error
    assert capsys.readouterr().out == ""


def test_what_is_written_is_not_embedded_again(at_hand, shards, model, work, monkeypatch, capsys):
    whole = ray_embedding.embeddings

    def loses(params, shards, tasks, model):
        for made in whole(params, shards, tasks, model):
            yield made
            if len(at_hand) == 1:
                raise ActorDiedError()

    monkeypatch.setattr(ray_embedding, "embeddings", loses)
    found = resumable_embedding.embed(composed(), shards, ["val"], model, work)
    assert at_hand == [SHARDS, SHARDS[1:]]
    assert capsys.readouterr().out.startswith("embedding: a worker was lost")
    assert len(read_files(found["val"])) == 12


@pytest.mark.slow
def test_a_killed_embedding_worker(ray_cluster, shards, model, work, tmp_path, monkeypatch, capfd):
    class Killed(ray_embedding.BatchEmbedder):
        def __call__(self, batch):
            if not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), 9)
            return super().__call__(batch)

    monkeypatch.setattr(ray_embedding, "BatchEmbedder", Killed)
    found = resumable_embedding.embed(
        small_params("cluster.num_workers=1"), shards, ["val"], model, work
    )
    assert len(read_files(found["val"])) == 12
    said = capfd.readouterr()
    assert said.out.count("embedding: a worker was lost, its work is done again (") == 1
    assert "Traceback" not in said.out + said.err
