"""What `ray job submit --working-dir .` copies to a cluster."""

import shutil
from zipfile import ZipFile

from ray._private.runtime_env.packaging import create_package
from tiny_project import ROOT

PLACES = (
    "data/shards/glyphs",
    "models",
    "runs/x",
    ".venv/lib",
    ".git/objects",
    "report",
    "mlartifacts",
    "data_report",
    ".dvc/cache",
    "tests",
    "benchmarks",
    "rhs/__pycache__",
    "photos",
    "docs",
)


def test_only_code_is_uploaded(tmp_path, monkeypatch):
    """What Ray itself packs for `--working-dir .`, from a folder that is full of other things."""
    project, package = tmp_path / "project", tmp_path / "package.zip"
    for name in ("rhs", "pipelines", "conf"):
        shutil.copytree(ROOT / name, project / name)
    for name in ("params.yaml", ".rayignore", ".gitignore", "README.md"):
        shutil.copy(ROOT / name, project)
    for place in PLACES:
        (project / place).mkdir(parents=True, exist_ok=True)
        (project / place / "big.bin").write_bytes(b"0" * 100_000)
    for name in (".env", "photos.tar", "mlflow.db"):
        (project / name).write_bytes(b"secret")
    monkeypatch.chdir(project)
    create_package(".", package, include_gitignore=True)
    with ZipFile(package) as packed:
        names = set(packed.namelist())
    assert {name.split("/")[0] for name in names} == {"rhs", "pipelines", "conf", "params.yaml"}
    files = [path for folder in ("rhs", "pipelines", "conf") for path in (ROOT / folder).rglob("*")]
    code = [path for path in files if path.is_file() and "__pycache__" not in path.parts]
    assert names == {"params.yaml", *(str(path.relative_to(ROOT)) for path in code)}
    assert package.stat().st_size < 5 * 2**20
