"""A full disk is one sentence, and leaves nothing half-written."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from folders import files
from PIL import Image

from rhs.datasets import folder


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
    disk = small_disk("300k")
    (project / "data").symlink_to(disk)
    assert "No space left on the disk" in refused("fetch", f"dataset.source={archive}")
    assert files(disk) == set()


def test_disk_full_at_preprocess(ray_cluster, refused, project, small_disk, large_images):
    folder.fetch(project / "data" / "raw" / "folder", str(large_images))
    disk = small_disk("300k")
    (project / "data" / "shards").symlink_to(disk)
    assert "No space left on the disk" in refused("preprocess", "dataset.validation=0")
    assert files(disk) == set()
