"""A full disk is one sentence, and leaves nothing half-written."""

import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from folders import files
from PIL import Image

from rhs.datasets import folder


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def large_images(tmp_path) -> Path:
    """Half a megabyte of images that do not compress."""
    for label in range(4):
        for number in range(3):
            file = tmp_path / "large" / f"class{label}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([label, number]).integers(0, 256, (120, 120, 3))
            Image.fromarray(noise.astype(np.uint8)).save(file)
    return tmp_path / "large"


def test_disk_full_at_fetch(refused, project, small_disk, large_images):
    archive = large_images.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for image in sorted(large_images.rglob("*.png")):
            file.write(image, image.relative_to(large_images))
    (project / "data").symlink_to(small_disk)
    assert "No space left on the disk" in refused("fetch", f"dataset.source={archive}")
    assert files(small_disk) == set()


def test_disk_full_at_preprocess(ray_cluster, refused, project, small_disk, large_images):
    folder.fetch(project / "data" / "raw" / "folder", str(large_images))
    (project / "data" / "shards").symlink_to(small_disk)
    assert "No space left on the disk" in refused("preprocess", "dataset.validation=0")
    assert files(small_disk) == set()
