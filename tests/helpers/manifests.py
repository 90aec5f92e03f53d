"""The manifests of deploy/, and what KubeRay and Kubernetes would say to them."""

import copy
import json
from functools import lru_cache

import yaml
from jsonschema import Draft202012Validator
from tiny_project import ROOT

DEPLOY = ROOT / "deploy"
KINDS = ("RayCluster", "RayJob", "PersistentVolumeClaim", "Pod", "NetworkPolicy")


@lru_cache
def definitions() -> dict:
    """tests/assets/kuberay.yaml, where every object refuses fields that it does not name."""
    schema = yaml.safe_load((ROOT / "tests/assets/kuberay.yaml").read_text())
    _close(schema)
    return schema["$defs"]


def _close(node: object) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            node |= {"type": "object", "additionalProperties": False}
        for value in node.values():
            _close(value)
    elif isinstance(node, list):
        for value in node:
            _close(value)


def refusals(document: dict) -> list[str]:
    """What the schema says against a manifest."""
    schema = {"$defs": definitions(), "$ref": f"#/$defs/{document['kind']}"}
    return [error.message for error in Draft202012Validator(schema).iter_errors(document)]


def load(name: str) -> list[dict]:
    """The documents of a file; what YAML's anchors share is copied, as Kubernetes does."""
    return json.loads(json.dumps(list(yaml.safe_load_all((DEPLOY / name).read_text()))))


def patched(document: dict, operations: list[dict]) -> dict:
    """A document after a JSON patch (RFC 6902) of the operations that ours uses."""
    document = copy.deepcopy(document)
    for operation in operations:
        *way, last = operation["path"].strip("/").split("/")
        at = document
        for key in way:
            at = at[int(key) if isinstance(at, list) else key]
        key = last if isinstance(at, dict) else len(at) if last == "-" else int(last)
        if operation["op"] == "test":
            assert at[key] == operation["value"], operation
        elif operation["op"] == "remove":
            del at[key]
        elif operation["op"] == "add" and isinstance(at, list):
            at.insert(key, operation["value"])
        else:
            assert operation["op"] == "add" or key in at, operation
            at[key] = operation["value"]
    return document


@lru_cache
def manifests() -> dict[str, dict]:
    """Every manifest by name, those of the object store among them."""
    cluster, job = load("raycluster.yaml")[0], load("rayjob.yaml")[0]
    claim, files = load("storage.yaml")
    operations = load("object_store.yaml")[0]
    inner = [dict(o, path=o["path"].replace("/rayClusterSpec", "")) for o in operations]
    inner = [o for o in inner if "entrypoint" not in o["path"]]
    return {
        "cluster": cluster,
        "job": job,
        "claim": claim,
        "files": files,
        "network": load("network.yaml")[0],
        "s3 cluster": patched(cluster, inner),
        "s3 job": patched(job, operations),
    }


NAMES = ["cluster", "job", "claim", "files", "network", "s3 cluster", "s3 job"]


def cluster_spec(document: dict) -> dict:
    spec = document["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(document: dict) -> list[dict]:
    """The spec of every pod that a manifest leads to."""
    if document["kind"] == "Pod":
        return [document["spec"]]
    if document["kind"] not in ("RayCluster", "RayJob"):
        return []
    spec = cluster_spec(document)
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    found = [group["template"]["spec"] for group in groups]
    if document["kind"] == "RayJob":
        found.append(document["spec"]["submitterPodTemplate"]["spec"])
    return found
