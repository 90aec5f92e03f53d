"""Cars196 in all its packings: the same classes, ids and splits."""

import hashlib
import re
from pathlib import Path

import fake_archives
import pytest
from fake_archives import Shelf, indexed, put, splits_of

from rhs.datasets import cars196
from rhs.datasets.cars196 import CLASSES
from rhs.datasets.download.downloads import Downloads, Unavailable
from rhs.errors import UserError

KAGGLE = "stanford-car-dataset-by-classes-folder.zip"
PACKINGS = ("original", "classification", "CARS196.zip", KAGGLE, "archive.zip")
SPLITS = {
    "001.AM_General_Hummer_SUV_2000": "train",
    "002.Acura_RL_Sedan_2012": "train",
    "098.Eagle_Talon_Hatchback_1998": "train",
    "099.FIAT_500_Abarth_2012": "test",
    "174.Ram_C_V_Cargo_Van_Minivan_2012": "test",
    "196.smart_fortwo_Convertible_2012": "test",
}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(cars196, "EXPECTED", fake_archives.CAR_COUNTS)
    digests = {
        name: hashlib.md5(fake_archives.jpeg(class_id, number)).hexdigest()
        for name, class_id, number in (("000001.jpg", 1, 0), ("016185.jpg", 196, 1))
    }
    monkeypatch.setattr(cars196, "ORIGINAL_IMAGES", digests)
    mat = fake_archives.cars("original")["cars_annos.mat"]
    monkeypatch.setattr(cars196, "ANNOTATIONS_MD5", hashlib.md5(mat).hexdigest())


def fetch(tmp_path: Path, files: dict, folder: str = "cars196") -> dict:
    for name, content in files.items():
        put(tmp_path / "here" / folder, name, content)
    return cars196.fetch(tmp_path / "data" / "raw", "recipe", Shelf(tmp_path / "here"))


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_has_the_same_classes_splits_and_images(tmp_path, packing):
    files = fake_archives.cars(packing)
    made = fetch(tmp_path, files)
    raw = tmp_path / "data" / "raw"
    assert splits_of(raw) == SPLITS
    found = {(row["class_name"], row["sha256"]) for row in indexed(raw).values()}
    assert found == {
        (CLASSES[c - 1], hashlib.sha256(fake_archives.jpeg(c, n)).hexdigest())
        for c in fake_archives.CAR_IDS
        for n in (0, 1)
    }
    if packing not in ("original", "classification"):
        assert made["notes"]["original_images"] == "2 of 2 known files found"
    assert set(made["notes"]["archives"]) <= set(files)


def test_the_classes_are_those_of_the_folders_in_order():
    assert [name[:4] for name in CLASSES] == [f"{number:03d}." for number in range(1, 197)]
    assert len({cars196._plain(name) for name in CLASSES}) == 196


@pytest.mark.parametrize(
    "name",
    [
        "Ram C/V Cargo Van Minivan 2012",
        "ram_c-v cargo van minivan 2012",
        "174.Ram_C_V_Cargo_Van_Minivan_2012",
    ],
)
def test_class_names_are_known_however_they_are_written(name):
    assert cars196._plain(name) == "ramcvcargovanminivan2012"


@pytest.mark.parametrize("first", [0, 1])
def test_folders_with_numbers_are_ids(tmp_path, monkeypatch, first):
    files = {
        f"CARS/images/{n + first:03d}/{k}.jpg": b"%d %d" % (n, k)
        for n in range(196)
        for k in (0, 1)
    }
    counts = fake_archives.Expected({"train": 196, "test": 196}, {"train": 98, "test": 98})
    monkeypatch.setattr(cars196, "EXPECTED", counts)
    fetch(tmp_path, {"CARS.zip": files})
    rows = indexed(tmp_path / "data" / "raw")
    assert rows[f"CARS/images/{first:03d}/1.jpg"]["class_name"] == CLASSES[0]
    assert rows[f"CARS/images/{97 + first:03d}/1.jpg"]["split"] == "train"
    assert rows[f"CARS/images/{98 + first:03d}/1.jpg"]["split"] == "test"


def test_the_raw_folder_keeps_what_a_plain_tar_held(tmp_path):
    (content,) = fake_archives.cars("archive.zip").values()
    folder = tmp_path / "here" / "cars196"
    put(folder, "cars.tar", content).rename(folder / "archive.zip")
    fetch(tmp_path, {})
    (folder / "archive.zip").unlink()
    assert len(indexed(tmp_path / "data" / "raw")) == 12


def test_what_is_here_comes_before_public_addresses_and_originals_first(tmp_path):
    put(
        tmp_path / "here" / "online",
        "CARS196.zip",
        fake_archives.cars("CARS196.zip")["CARS196.zip"],
    )
    made = fetch(tmp_path, {})
    assert made["notes"]["archives"] == ["CARS196.zip"]
    made = fetch(tmp_path, fake_archives.cars("archive.zip"))
    assert made["notes"]["archives"] == ["archive.zip"]
    made = fetch(tmp_path, fake_archives.cars("classification"))
    assert made["notes"]["archives"] == ["cars_train.tgz", "cars_test.tgz"]
    made = fetch(tmp_path, fake_archives.cars("original"))
    assert made["notes"]["archives"] == ["car_ims.tgz"]


def test_a_devkit_that_could_come_is_not_asked_for_without_the_images(tmp_path):
    shelf = Shelf(tmp_path)
    put(tmp_path / "online", "car_devkit.tgz", {"devkit/x": b""})
    with pytest.raises(Unavailable) as caught:
        cars196.fetch(tmp_path / "data" / "raw", "recipe", shelf)
    said = str(caught.value)
    wanted = (
        "car_ims.tgz (md5:d5c8f0aa497503f355e17dc7886c3f14)",
        "archive.zip",
        KAGGLE,
        str(tmp_path / "cars196"),
        "fetch.mirror",
        "RHS_MIRROR",
    )
    assert all(text in said for text in wanted)
    assert said.count(". ") == 0
    assert shelf.asked.count("car_devkit.tgz") == 1
    assert shelf.asked.count("CARS196.zip") == 2
    assert shelf.asked.count("cars_annos.mat") == 1


def test_the_one_file_that_is_missing_is_named(tmp_path):
    files = fake_archives.cars("original")
    del files["cars_annos.mat"]
    with pytest.raises(Unavailable, match=r"\(missing beside what is here: cars_annos\.mat\)"):
        fetch(tmp_path, files)


def test_images_that_were_encoded_again_are_taken_and_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cars196, "ORIGINAL_IMAGES", dict.fromkeys(("000001.jpg", "016185.jpg"), ""))
    monkeypatch.setitem(cars196.ORIGINAL_IMAGES, "016185.jpg", "1")
    made = fetch(tmp_path, fake_archives.cars(KAGGLE))
    assert made["notes"]["original_images"].startswith("0 of 2 known files found: the images were")
    assert "encoded again" in capsys.readouterr().out


def test_an_image_of_the_original_name_must_be_the_original(tmp_path, monkeypatch):
    monkeypatch.setitem(cars196.ORIGINAL_IMAGES, "000001.jpg", "0" * 32)
    with pytest.raises(UserError, match=r"car_ims/000001\.jpg in .* is not the official file"):
        fetch(tmp_path, fake_archives.cars("CARS196.zip"))
    assert list((tmp_path / "data").iterdir()) == []


def test_annotations_in_a_repack_are_only_parsed_where_they_are_the_official_ones(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(cars196, "loadmat", lambda _: pytest.fail("scipy may crash on this"))
    (content,) = fake_archives.cars("CARS196.zip").values()
    damaged = {**content, "cars196/cars_annos.mat": content["cars196/cars_annos.mat"][:-90]}
    with pytest.raises(UserError, match=r"has no official cars_annos\.mat that fits its images"):
        fetch(tmp_path, {"CARS196.zip": damaged})


def test_official_annotations_of_images_that_are_not_there(tmp_path):
    """As in a repack of the classification task, whose files have other names."""
    (content,) = fake_archives.cars("CARS196.zip").values()
    renamed = {name.replace("car_ims/0", "cars_train/"): data for name, data in content.items()}
    with pytest.raises(UserError, match=r"has no official cars_annos\.mat that fits its images"):
        fetch(tmp_path, {"CARS196.zip": renamed})


def test_a_class_that_is_missing_or_unknown_spoils_the_counts(tmp_path):
    (content,) = fake_archives.cars(KAGGLE).values()
    renamed = {n.replace("FIAT 500 Abarth", "FIAT 501"): data for n, data in content.items()}
    with pytest.raises(UserError, match=r"10 images \(6 train, 4 test\) of 3 train, 2 test"):
        fetch(tmp_path, {KAGGLE: renamed})


def test_what_is_refused_is_named_and_the_next_packing_used(tmp_path, capsys):
    here = tmp_path / "here" / "cars196"
    put(here, "CARS196.zip", {f"{c}/{n}.jpg": b"x" for c in "abcd" for n in range(3)})
    put(here, "CARS.zip", b"no archive at all" * 99)
    with pytest.raises(Unavailable) as caught:
        fetch(tmp_path, {})
    said = str(caught.value)
    for name, why in (("CARS196.zip", "no folder named after"), ("CARS.zip", "is not an archive")):
        assert re.search(rf"refused, {here / name} [^;]*{why}.*; delete {here / name}[];]", said)
    assert said.count(". ") == 0
    assert capsys.readouterr().out.count("refused, ") == 2  # each is read once
    assert fetch(tmp_path, fake_archives.cars("archive.zip"))["notes"]["archives"] == [
        "archive.zip"
    ]


def test_a_download_that_is_refused_gives_way_to_the_next(tmp_path):
    online = tmp_path / "here" / "online"
    put(online, "CARS196.zip", {"a/1.jpg": b"x"})
    put(online, KAGGLE, fake_archives.cars(KAGGLE)[KAGGLE])
    assert fetch(tmp_path, {})["notes"]["archives"] == [KAGGLE]


def test_an_archive_zip_in_the_top_folder_of_a_mirror_is_anybodys(tmp_path):
    files = fake_archives.cars("archive.zip")["archive.zip"]
    downloads = Downloads(tmp_path / "downloads", str(tmp_path / "mirror"), retries=0)
    put(tmp_path / "mirror", "archive.zip", files)
    *_, (anybodys,) = cars196.PACKINGS
    with pytest.raises(Unavailable):
        downloads.get(anybodys, "cars196")
    put(tmp_path / "mirror" / "cars196", "archive.zip", files)
    raw = cars196.fetch(tmp_path / "data" / "raw", "recipe", downloads)
    assert raw["notes"]["archives"] == ["archive.zip"]


def test_an_archive_of_something_else(tmp_path):
    files = {f"{c}/{n}.jpg": b"x" for c in "abcd" for n in range(3)}
    with pytest.raises(UserError, match="no folder named after a class, like 'AM General Hummer"):
        fetch(tmp_path, {"archive.zip": files})
