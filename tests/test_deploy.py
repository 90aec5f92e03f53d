"""deploy/: manifests that KubeRay's and Kubernetes' schemas accept, and that fit this project."""

import copy
import json
import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from jsonschema import Draft202012Validator
from manifests import DEPLOY, KINDS, NAMES, cluster_spec, definitions, manifests, pods, refusals
from tiny_project import ROOT, composed

from rhs.distributed.ray_cluster import workers_of

CONTAINER = ("template", "spec", "containers", 0)


def paths(node: object, way: tuple = ()) -> list[tuple]:
    """The ways to every dictionary in a document."""
    if isinstance(node, dict):
        return [way, *(p for key, value in node.items() for p in paths(value, (*way, key)))]
    if isinstance(node, list):
        return [p for i, value in enumerate(node) for p in paths(value, (*way, i))]
    return []


def test_the_schema_is_one():
    Draft202012Validator.check_schema({"$defs": definitions()})
    assert set(KINDS) < set(definitions())


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_the_manifests(name):
    assert refusals(manifests()[name]) == []


@pytest.mark.parametrize("name", ["cluster", "job", "claim", "files", "network"])
def test_a_misspelt_field_is_refused_anywhere(name):
    free = ("labels", "matchLabels", "limits", "requests", "rayStartParams")  # any key goes there
    ways = [way for way in paths(manifests()[name]) if not way or way[-1] not in free]
    assert () in ways
    assert ("spec",) in ways
    for way in ways:
        document = copy.deepcopy(manifests()[name])
        at = document
        for key in way:
            at = at[key]
        at["replica"] = 1
        assert refusals(document), way


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("authOptions", "mode"), "Token"),
        (("rayVersion",), 2.6),
        (("workerGroupSpecs", 0, "minReplicas"), "2"),
        (("workerGroupSpecs", 0, *CONTAINER, "resources", "limits", "cpu"), "4 cores"),
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("headGroupSpec", "template", "spec", "volumes", 0, "emptyDir", "medium"), "RAM"),
        (("headGroupSpec", *CONTAINER, "env", 0, "value"), 35),
    ],
)
def test_a_wrong_value_is_refused(way, value):
    document = copy.deepcopy(manifests()["cluster"])
    at = document["spec"]
    for key in way[:-1]:
        at = at[key]
    at[way[-1]] = value
    assert len(refusals(document)) == 1


@pytest.mark.parametrize("missing", ["template", "groupName", "minReplicas"])
def test_a_missing_field_is_refused(missing):
    document = copy.deepcopy(manifests()["job"])
    del cluster_spec(document)["workerGroupSpecs"][0][missing]
    assert refusals(document) == [f"{missing!r} is a required property"]


def test_the_two_clusters_are_one():
    assert manifests()["job"]["spec"]["rayClusterSpec"] == manifests()["cluster"]["spec"]
    assert manifests()["s3 job"]["spec"]["rayClusterSpec"] == manifests()["s3 cluster"]["spec"]


@pytest.mark.parametrize("name", ["job", "s3 job"])
def test_the_command_of_a_job_fits_its_cluster(name):
    job = manifests()[name]["spec"]
    words = shlex.split(job["entrypoint"])
    assert words[:3] == ["python", "-m", "pipelines.train"]
    cluster = composed(*words[3:]).cluster
    workers, spec = job["rayClusterSpec"]["workerGroupSpecs"][0], job["rayClusterSpec"]
    assert workers["minReplicas"] <= workers_of(cluster.num_workers)[0]
    assert workers_of(cluster.num_workers)[1] <= workers["maxReplicas"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    (container,) = workers["template"]["spec"]["containers"]
    limits, each = container["resources"]["limits"], cluster.resources_per_worker
    assert int(limits["nvidia.com/gpu"]) == each["GPU"]
    assert int(limits["cpu"]) >= each["CPU"] + 1  # cluster.input=ray
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"  # no worker lands there
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    if "://" in cluster.storage:
        assert "/mnt/rhs" not in mounts
        assert container["envFrom"] == [{"secretRef": {"name": "rhs-s3"}}]
    else:
        assert cluster.storage in mounts
    assert cluster.cache_folder.startswith("/tmp/")  # the volume "scratch"
    assert "/tmp" in mounts


@pytest.mark.parametrize("name", ["cluster", "job"])
def test_there_is_time_to_save(name):
    head = cluster_spec(manifests()[name])["headGroupSpec"]["template"]["spec"]
    (container,) = head["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    stop = int(environment["RAY_JOB_STOP_WAIT_TIME_S"])
    grace = composed("cluster=multi_node").cluster.grace_seconds
    assert grace + 5 <= stop
    assert stop + 5 <= head["terminationGracePeriodSeconds"]
    script = container["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert f"seq {stop}" in script


@pytest.mark.skipif(shutil.which("pkill") is None, reason="no procps here; the image has it")
def test_what_happens_before_a_pod_ends(tmp_path):
    """preStop asks the driver to end, waits for it, and finds nothing to do where there is none."""
    cluster = manifests()["cluster"]["spec"]
    (container,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    *shell, script = container["lifecycle"]["preStop"]["exec"]["command"]
    # Only a process of this test: another test may run a real driver.
    script = script.replace("python -m pipelines", f"python {tmp_path}")
    driver = (
        f"trap 'sleep 1; echo saved > {tmp_path}/said; exit' TERM; echo > {tmp_path}/up; "
        "for i in $(seq 200); do sleep 0.1; done"
    )
    running = subprocess.Popen(
        [f"python {tmp_path}", "-c", driver], executable="/bin/bash", stdout=subprocess.DEVNULL
    )
    while not (tmp_path / "up").exists():
        assert running.poll() is None
    hook = subprocess.Popen([*shell, script])
    assert running.wait(timeout=20) == 0
    assert hook.wait(timeout=20) == 0
    assert (tmp_path / "said").read_text() == "saved\n"
    assert subprocess.run([*shell, script], timeout=20, check=False).returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_pods_have_no_privileges(name):
    for pod in pods(manifests()[name]):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod.get("hostNetwork")
        assert not [volume for volume in pod.get("volumes", []) if "hostPath" in volume]
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) == {"limits", "requests"}


@pytest.mark.parametrize("name", ["cluster", "job", "s3 cluster", "s3 job"])
def test_ray_is_guarded_and_secrets_are_elsewhere(name):
    document, readme = manifests()[name], (DEPLOY / "README.md").read_text()
    spec = cluster_spec(document)
    assert spec["authOptions"]["mode"] == "token"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    named = {spec["authOptions"]["secretName"]}
    for pod in pods(document):
        for container in pod["containers"]:
            named |= {source["secretRef"]["name"] for source in container.get("envFrom", [])}
            for entry in container.get("env", []):
                assert not re.search("TOKEN|SECRET|PASSWORD|KEY", entry["name"]), entry
    assert "env_vars" not in yaml.safe_load(document["spec"].get("runtimeEnvYAML", "{}"))
    for secret in named:
        assert f"kubectl create secret generic {secret} " in readme


def test_a_worker_reaches_no_mlflow():
    """Only the driver talks to it, so that only the head's pod has its secret."""
    for name in ("cluster", "s3 cluster"):
        for group in manifests()[name]["spec"]["workerGroupSpecs"]:
            assert "rhs-mlflow" not in json.dumps(group)


def test_versions_are_the_pinned_ones():
    pins = (ROOT / "constraints.txt").read_text()
    ray = re.search(r"^ray==(.+)$", pins, re.MULTILINE)[1]
    recipe = (DEPLOY / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{ray}-py311-gpu\n" in recipe
    for name in ("cluster", "job"):
        assert cluster_spec(manifests()[name])["rayVersion"] == ray
    every = [pod for document in manifests().values() for pod in pods(document)]
    images = {container["image"] for pod in every for container in pod["containers"]}
    assert images == {f"registry.example/rhs-dml:{ray}"}
