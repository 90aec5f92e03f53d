"""deploy/'s README and image: commands that are real, and everything that a job needs."""

import json
import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from manifests import DEPLOY, manifests, refusals
from packaging.requirements import Requirement
from tiny_project import ROOT, composed


def test_the_image_has_what_the_job_runs():
    recipe = (DEPLOY / "Dockerfile").read_text()
    sources = [
        w
        for line in re.findall(r"^COPY --chown=\S+ (.+)$", recipe, re.MULTILINE)
        for w in line.split()[:-1]
    ]
    assert {"rhs", "pipelines", "conf", "params.yaml", "constraints.txt"} <= set(sources)
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in sent if line.startswith("!")} == set(sources)
    assert all((ROOT / source).exists() for source in sources)
    extras = re.search(r"'\.\[(.+)\]'", recipe)[1].split(",")
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
    assert yaml.safe_load(manifests()["job"]["spec"]["runtimeEnvYAML"]) == {
        "working_dir": re.search(r"^WORKDIR (.+)$", recipe, re.MULTILINE)[1]
    }


def test_extras_of_the_image_are_pinned():
    """Everything that `pip install '.[gpu,s3]'` asks for by name."""
    text = (ROOT / "pyproject.toml").read_text()
    lists = text.split("dependencies = [")[1].split("]\n\n[tool")[0]
    wanted = re.findall(r'"([\w\[\],.-]+)"', lists)
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    names = {Requirement(word).name.lower().replace("_", "-") for word in wanted}
    assert {"ray", "torch", "dvc-s3", "faiss-gpu"} <= names
    names.remove("rhs-dml")  # an extra of this package, asked for by another
    assert names <= pinned


def readme_commands() -> list[str]:
    text = (DEPLOY / "README.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line and not line.startswith("#")]


def test_the_readme_names_what_is_there():
    text = (DEPLOY / "README.md").read_text()
    files = set(re.findall(r"deploy/([\w.]+)", text))
    own = {"README.md", "Dockerfile.dockerignore"}
    assert files == {path.name for path in DEPLOY.iterdir()} - own
    for command in readme_commands():
        words = shlex.split(command)
        assert words[0] in {"kubectl", "helm", "docker", "export", "ray", "sed"}, command
        named = re.findall(r"deploy/[\w.]+", command)
        assert all((ROOT / file).is_file() for file in named), command
        if "python" in words:
            at = words.index("python")
            assert (ROOT / f"{words[at + 2].replace('.', '/')}.py").exists()
            composed(*(word for word in words[at + 3 :] if "=" in word))
    assert re.search(r"--version 1\.6\.\d", text)


def test_the_revision_travels_with_the_job():
    """The copy of the code on the cluster has no git to ask."""
    (line,) = [command for command in readme_commands() if command.startswith("export RHS_ENV=")]
    done = subprocess.run(
        ["bash", "-c", f'{line}; printf %s "$RHS_ENV"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(json.loads(done.stdout)["env_vars"]) == {"RHS_REVISION"}
    recipe = (DEPLOY / "Dockerfile").read_text()
    assert "ENV RHS_REVISION=$REVISION" in recipe


def test_the_pod_that_makes_the_volume_writable():
    """Its owner is then whom all pods run as."""
    (line,) = [c for c in readme_commands() if c.startswith("kubectl run ")]
    words = shlex.split(line.replace("$IMAGE", "registry.example/image"))
    (overrides,) = [w.removeprefix("--overrides=") for w in words if w.startswith("--overrides=")]
    spec = json.loads(overrides)["spec"]
    head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": words[2]}}
    assert refusals(head | {"spec": spec}) == []
    (container,) = spec["containers"]
    (mount,), (volume,) = container["volumeMounts"], spec["volumes"]
    assert container["name"] == words[2]
    assert mount["name"] == volume["name"]
    claim = manifests()["claim"]["metadata"]["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim
    user = manifests()["files"]["spec"]["securityContext"]
    owner = f"{user['runAsUser']}:{user['runAsGroup']}"
    assert container["command"] == ["chown", owner, mount["mountPath"]]
    assert container["securityContext"]["runAsUser"] == 0


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_readme_makes_the_object_store_variants():
    made = [c for c in readme_commands() if "--patch-file" in c]
    assert len(made) == 2
    for command, name in zip(made, ("s3 job", "s3 cluster"), strict=True):
        local = command.rpartition("| kubectl apply")[0]
        done = subprocess.run(
            ["bash", "-c", local], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert yaml.safe_load(done.stdout) == manifests()[name]
