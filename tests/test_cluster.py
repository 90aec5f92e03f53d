"""Workers that the local cluster has no room for are refused, not waited for."""

import pytest
from omegaconf import OmegaConf
from tiny import composed

from rhs import cluster
from rhs.errors import UserError


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ("cluster.num_workers=4", r"num_workers = 4 with 1 CPU each need 4 CPU; there are 2"),
        ("cluster=one_gpu", r"1 GPU each need 1 GPU; there are 0"),
        ("cluster.input=ray", r"one CPU more for each of the 2 workers, 4 in all; there are 2"),
    ],
)
def test_too_much_asked_of_this_machine(monkeypatch, choice, sentence):
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    stopped = []
    monkeypatch.setattr(ray, "shutdown", lambda: stopped.append(True))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0} | ENOUGH[choice])
    with pytest.raises(UserError, match=sentence):
        cluster.connect(composed(choice).cluster)
    assert stopped


ENOUGH = {"cluster.num_workers=4": {}, "cluster=one_gpu": {"CPU": 8.0}, "cluster.input=ray": {}}


def test_a_cluster_that_can_grow_is_waited_for(monkeypatch, capsys):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    chosen = OmegaConf.merge(composed().cluster, {"address": "ray.example:6379", "num_workers": 3})
    cluster.connect(chosen)
    assert "3 with 1 CPU each need 3 CPU; there are 2" in capsys.readouterr().out
