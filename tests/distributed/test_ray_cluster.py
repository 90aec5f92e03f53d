"""Workers that the local cluster has no room for are refused, not waited for."""

import re
from dataclasses import replace

import pytest
import yaml
from tiny_project import cluster_config, composed

from rhs.distributed import ray_cluster
from rhs.errors import UserError
from rhs.evaluation.ray_embedding import embedding_pool

ELASTIC = "cluster.num_workers=[1,2] cluster.input=ray"
MORE = {"cluster=one_gpu": {"CPU": 8.0}}


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ("cluster.num_workers=4", r"num_workers = 4 with 1 CPU each need 4 CPU; there are 2"),
        ("cluster=one_gpu", r"1 GPU each need 1 GPU; there are 0"),
        ("cluster.input=ray", r"one CPU more for each of the 2 workers, 4 in all; there are 2"),
        (ELASTIC, r"one CPU more for each of the 2 workers, 4 in all; there are 2"),
    ],
)
def test_too_much_asked_of_this_machine(monkeypatch, choice, sentence):
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    stopped = []
    monkeypatch.setattr(ray, "shutdown", lambda: stopped.append(True))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0} | MORE.get(choice, {}))
    with pytest.raises(UserError, match=sentence):
        ray_cluster.connect(composed(*choice.split()).cluster)
    assert stopped


def test_a_cluster_that_can_grow_is_waited_for(monkeypatch, capsys):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray_cluster, "check_answer", lambda *_: None)
    chosen = replace(composed().cluster, address="ray.example:6379", num_workers=3)
    ray_cluster.connect(chosen)
    assert "3 with 1 CPU each need 3 CPU; there are 2" in capsys.readouterr().out


def test_an_elastic_range_may_ask_for_more_than_there_is(monkeypatch):
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    ray_cluster.connect(composed("cluster.num_workers=[2,8]").cluster)


@pytest.mark.parametrize(
    ("asked", "workers"), [("1", (1, 1)), ("6", (6, 6)), ("[2,8]", (2, 8)), ("[3,3]", (3, 3))]
)
def test_how_many_workers(asked, workers):
    chosen = composed(f"cluster.num_workers={asked}").cluster
    assert ray_cluster.workers_of(chosen.num_workers) == workers


@pytest.mark.parametrize(
    "asked",
    [
        "[2]",
        "'2'",
        "null",
        "[0,4]",
        "[3,2]",
        "[1.5,2]",
        "true",
        "0",
        "1.0",
        "[]",
        "[1,2,3]",
        "[true,2]",
        "[1,null]",
        "{a: 1}",
    ],
)
def test_what_is_no_number_of_workers(asked, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    sentence = re.compile(r"cluster\.num_workers is [^\n]+; it must be a whole number [^.\n]+\.")
    with pytest.raises(UserError, match=sentence):
        composed(f"cluster.num_workers={asked}")
    workers = yaml.safe_load(asked)
    chosen = cluster_config(num_workers=workers)
    for refusing, given in ((ray_cluster.workers_of, workers), (ray_cluster.connect, chosen)):
        with pytest.raises(UserError) as caught:
            refusing(given)
        assert sentence.fullmatch(str(caught.value).replace("1.5", "")), str(caught.value)


@pytest.mark.parametrize(
    ("workers", "each", "there", "pool"),
    [
        (2, {"CPU": 1}, {"CPU": 2}, (2, 2, 0.5)),
        ([1, 4], {"CPU": 1}, {"CPU": 2}, (1, 2, 0.5)),  # four would take both
        (4, {"CPU": 1}, {"CPU": 2}, (2, 2, 0.5)),
        ([3, 4], {"CPU": 1}, {"CPU": 2}, (2, 2, 0.5)),
        ([2, 4], {"CPU": 1}, {"CPU": 16}, (2, 4, 0.5)),
        ([1, 64], {"CPU": 4}, {"CPU": 16}, (1, 7, 2)),
        ([2, 8], {"CPU": 1, "GPU": 1}, {"CPU": 16, "GPU": 4.0}, (2, 4, 0.5)),
        ([2, 8], {"GPU": 1}, {"CPU": 2, "GPU": 4.0}, (2, 2, 0.5)),
        ([2, 8], {"CPU": 0}, {"CPU": 2}, (2, 8, 0)),
        ([1, 2], {"CPU": 1}, {"CPU": 1}, (1, 1, 0)),  # the reader has the only one
        (1, {"CPU": 8}, {"CPU": 4}, (1, 1, 3)),
        (8, {"CPU": 4, "GPU": 1}, {}, (1, 1, 2)),  # of a cluster that will grow
    ],
)
def test_embedding_leaves_a_processor_to_the_readers(workers, each, there, pool):
    chosen = cluster_config(num_workers=workers, resources_per_worker=each)
    takes = {"CPU": pool[2], "GPU": each.get("GPU", 0)}
    assert embedding_pool(chosen, there) == (*pool[:2], takes)
