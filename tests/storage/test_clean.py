"""`make clean` deletes what stages made, and says what else it left."""

import shutil
import subprocess
from pathlib import Path

import pytest
from folders import files
from tiny_project import ROOT

from rhs.storage.clean import clean
from rhs.storage.outputs import OUTPUTS

MADE = (
    "data/raw/folder/index.parquet",
    "data/raw/folder/source.json",
    "data/raw/folder/images.tar",
    "data/raw/cars196/index.parquet",
    "data/raw/cars196/cars_train/images.tar",
    "data/raw/.folder.lock",
    "data/shards/folder/manifest.json",
    "data/shards/folder/train-00000.parquet",
    "data/shards/folder.refused.csv",
    "data/inputs/folder/source.json",
    "data/decoded/folder-0123456789ab-train/pixels",
    "data/decoded/.folder-0123456789ab-train.lock",
    "data_report/index.html",
    "models/folder/config.json",
    "models/folder/model.safetensors",
    "embeddings/folder/test-00000.parquet",
    "index/folder/index.faiss",
    "report/explorer.html",
    "report/index.html",
    "runs/folder-npair-convnet-01234567/log.txt",
    "runs/folder-npair-convnet-01234567/checkpoints/000000003.json",
    "runs/folder-npair-convnet-01234567/checkpoints/.000000003.json.0123abcd.tmp",
    "runs/ray/whatever/Ray/keeps.bin",
    "metrics.json",
    "dvc_plots/index.html",
)
THEIRS = (
    "data/raw/birds/robin/1.jpg",
    "data/raw/birds/robin/2.jpg",
    "data/raw/birds/robin/3.jpg",
    "data/raw/birds/wren/1.jpg",
    "data/raw/archive/images.tar",
    "data/raw/notes.txt",
    "data/shards/folder/notes.txt",
    "data/originals/1.jpg",
    "data/downloads/cub200/a.tgz",
    "report/own.html",
    "models/own/weights.pt",
    "runs/folder-npair-convnet-01234567/notes.txt",
    "tuning/default/results/best.json",
    "mlflow.db",
    "photo.jpg",
    "conf/experiment/mine.yaml",
)


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


def test_a_project_with_files_of_a_user(tmp_path):
    write(tmp_path, *MADE, *THEIRS, "data/raw/folder/.DS_Store")
    said = clean(tmp_path)
    assert files(tmp_path) == set(THEIRS)
    assert (
        f"{tmp_path}/data/raw/birds: no stage made robin/1.jpg, robin/2.jpg, robin/3.jpg and 1 more"
        in said
    )
    assert f"{tmp_path}/data/raw/archive: no stage made images.tar" in said
    assert f"{tmp_path}/data/raw/notes.txt: no stage made it" in said
    assert len(said) == 7


def test_a_project_without(tmp_path):
    write(tmp_path, *MADE)
    assert clean(tmp_path) == []
    assert files(tmp_path) == set()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert clean(tmp_path) == []


@pytest.mark.parametrize("output", [name for name in OUTPUTS if not name.startswith("runs/ray")])
def test_links_and_all_behind_them_stay(tmp_path, output):
    there, here = tmp_path / "elsewhere", tmp_path / "project"
    write(there, "index.parquet", "source.json", "images.tar", "index.html", "1.jpg", "log.txt")
    write(there / "x", "index.parquet", "manifest.json", "config.json", "index.json", "pixels")
    before, name = files(there), output.replace("*", "x")
    for place in {name, name.removesuffix("/x")}:
        (here / place).parent.mkdir(parents=True, exist_ok=True)
        (here / place).symlink_to(there)
        assert clean(here) == [f"{here / place}: it is a link"]
        assert (here / place).is_symlink()
        shutil.rmtree(here)
    assert files(there) == before


def test_the_command(tmp_path):
    write(tmp_path, "data/raw/birds/1.jpg", "report/index.html")
    make = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "clean"]
    done = subprocess.run(
        make,
        cwd=tmp_path,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "left as it is:\n  data/raw/birds: no stage made 1.jpg\n"
    assert files(tmp_path) == {"data/raw/birds/1.jpg"}
