"""The published data sets: labels, splits and counts as published, or a sentence."""

import re
import shlex

import fake_archives
import pytest
from fake_archives import Shelf, indexed, put, splits_of
from omegaconf import OmegaConf
from tiny_project import ROOT, composed

from rhs.datasets import cars196, cub200, inshop, omniglot, sop
from rhs.datasets.download.downloads import Unavailable
from rhs.errors import UserError

HERE = {
    cub200: ("CUB_200_2011.tgz", fake_archives.cub, fake_archives.CUB_COUNTS),
    sop: ("Stanford_Online_Products.zip", fake_archives.sop, fake_archives.SOP_COUNTS),
}


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """Fetches a data set of stand-in files, some of which are changed."""

    def run(module, files: dict, counts) -> dict:
        for name, content in files.items():
            put(tmp_path / "here" / module.NAME, name, content)
        monkeypatch.setattr(module, "EXPECTED", counts)
        return module.fetch(tmp_path / "data" / "raw", "recipe", Shelf(tmp_path / "here"))

    return run


def test_cub200_is_split_by_the_ids_of_its_own_lists(fetched, tmp_path):
    made = fetched(cub200, {"CUB_200_2011.tgz": fake_archives.cub()}, fake_archives.CUB_COUNTS)
    raw = tmp_path / "data" / "raw"
    assert splits_of(raw) == {
        "001.Wren": "train",
        "100.Auk": "train",
        "101.Crow": "test",
        "200.Bunting": "test",
    }
    assert indexed(raw)["101.Crow/Crow_2.jpg"]["class_name"] == "101.Crow"
    assert made["notes"] == {
        "archives": ["CUB_200_2011.tgz"],
        "images_not_listed": 0,
        "other_files": 5,
        "hidden_files_skipped": 1,
    }
    assert made["refused"] == []
    assert {p.name for p in raw.iterdir()} == {"images.tar", "index.parquet", "source.json"}


def test_cub200_believes_its_label_list_and_not_the_folders(fetched, tmp_path):
    files = fake_archives.cub()
    labels = files["CUB_200_2011/image_class_labels.txt"].replace(b"1 1\n", b"1 101\n")
    files["CUB_200_2011/image_class_labels.txt"] = labels
    counts = fake_archives.Expected({"train": 3, "test": 5}, {"train": 2, "test": 2})
    fetched(cub200, {"CUB_200_2011.tgz": files}, counts)
    moved = indexed(tmp_path / "data" / "raw")["001.Wren/Wren_1.jpg"]
    assert (moved["class_name"], moved["split"]) == ("101.Crow", "test")


def test_sop_takes_its_two_lists_and_groups_by_kind(fetched, tmp_path):
    made = fetched(
        sop, {"Stanford_Online_Products.zip": fake_archives.sop()}, fake_archives.SOP_COUNTS
    )
    assert splits_of(tmp_path / "data" / "raw") == {
        "bicycle/00001": "train",
        "coffee_maker/00002": "train",
        "bicycle/11319": "test",
        "toaster/22634": "test",
    }
    assert made["notes"]["hidden_files_skipped"] == 1
    assert "coffee_maker_final/2_1.JPG" in indexed(tmp_path / "data" / "raw")


@pytest.mark.parametrize("root", ["img/", "Img/img/", ""])
def test_inshop_has_queries_a_gallery_and_items_for_classes(fetched, tmp_path, root):
    images, text = fake_archives.inshop(root)
    files = {"img.zip": images, "list_eval_partition.txt": text}
    made = fetched(inshop, files, fake_archives.INSHOP_COUNTS)
    assert splits_of(tmp_path / "data" / "raw") == {
        "id_00000001": "train",
        "id_00000003": "train",
        "id_00000002": "gallery query",
        "id_00000004": "gallery query",
    }
    assert made["notes"]["items_of_several_kinds"] == 1
    assert "WOMEN/Tees/id_00000004/01_3_back.jpg" in indexed(tmp_path / "data" / "raw")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace(b"10\n", b"11\n", 1), "counts '11' images and lists 10"),
        (lambda text: text.replace(b" query", b" probe"), "'probe'; accepted: train, query, galle"),
        (lambda text: text.replace(b" query", b""), "Line 7 of .*accepted: image_name item_id"),
        (lambda text: b"\xff\xfe" + text, "not a text file"),
        (lambda text: b"", "counts '' images and lists 0"),
    ],
)
def test_inshop_refuses_a_list_that_is_none(fetched, change, sentence):
    images, text = fake_archives.inshop()
    files = {"img.zip": images, "list_eval_partition.txt": change(text)}
    with pytest.raises(UserError, match=sentence):
        fetched(inshop, files, fake_archives.INSHOP_COUNTS)


def official_omniglot() -> dict:
    files = fake_archives.omniglot(lambda alphabet, character: f"{alphabet}/{character}")
    names = ("images_background", "images_evaluation")
    return {f"{s}.zip": {n: d for n, d in files.items() if n.startswith(s)} for s in names}


def other_omniglot() -> dict:
    files = fake_archives.omniglot(lambda alphabet, character: f"{slug(alphabet)}__{character}")
    return {"omniglot.tar.gz": {f"./{name}": data for name, data in files.items()}}


def slug(alphabet: str) -> str:
    return {"Aurek-Besh": "Aurek_Besh"}.get(alphabet, "Malay_Jawi_Arabic")


def test_omniglot_is_the_same_in_both_packings(fetched, tmp_path):
    contents = []
    for files in (other_omniglot(), official_omniglot()):  # the second takes precedence
        made = fetched(omniglot, files, fake_archives.OMNIGLOT_COUNTS)
        assert made["notes"]["archives"] == list(files)
        rows = indexed(tmp_path / "data" / "raw").values()
        contents.append([(r["name"], r["class_name"], r["split"], r["sha256"]) for r in rows])
    assert contents[0] == contents[1]
    assert splits_of(tmp_path / "data" / "raw") == {
        "Malay_Jawi_Arabic/character01": "train",
        "Malay_Jawi_Arabic/character02": "train",
        "Aurek_Besh/character01": "test",
        "Aurek_Besh/character02": "test",
    }


def test_real_omniglot(tmp_path):
    shared = fake_archives.Path(__file__).parents[3] / "shared" / "datasets" / "omniglot.tar.gz"
    if not shared.exists():
        pytest.skip("../shared/datasets/omniglot.tar.gz is not here")
    (tmp_path / "here" / "omniglot").mkdir(parents=True)
    (tmp_path / "here" / "omniglot" / shared.name).symlink_to(shared)
    made = omniglot.fetch(tmp_path / "raw", "recipe", Shelf(tmp_path / "here"))
    assert (made["images"], made["classes"], made["refused"]) == (32_460, 1_623, [])
    splits = splits_of(tmp_path / "raw")
    assert splits["Japanese_hiragana/character52"] == "train"
    assert splits["Atemayar_Qelisayer/character26"] == "test"
    assert len({name.partition("/")[0] for name in splits}) == 50


@pytest.mark.parametrize("module", HERE, ids=lambda module: module.NAME)
def test_an_image_of_the_list_that_is_not_there(fetched, module, tmp_path):
    name, files, counts = HERE[module]
    archive = files()
    gone = next(member for member in archive if member.lower().endswith("2.jpg"))
    del archive[gone]
    with pytest.raises(UserError, match=f"holds 7 of the 8 images .* not {gone}"):
        fetched(module, {name: archive}, counts)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("module", HERE, ids=lambda module: module.NAME)
def test_an_image_that_no_list_has_is_counted_and_left_out(fetched, module, tmp_path):
    name, files, counts = HERE[module]
    made = fetched(module, {name: {**files(), "extra/1.JPG": b"x"}}, counts)
    assert (made["images"], made["notes"]["images_not_listed"]) == (8, 1)


@pytest.mark.parametrize("module", HERE, ids=lambda module: module.NAME)
def test_other_counts_than_the_official_ones(fetched, module, tmp_path):
    name, files, _ = HERE[module]
    with pytest.raises(UserError) as caught:
        fetched(module, {name: files()}, module.EXPECTED)
    said = str(caught.value)
    assert "8 images (4 train, 4 test) of 2 train, 2 test classes" in said
    wanted = {
        "cub200": "11,788 images (5,864 train, 5,924 test) of 100 train, 100 test classes",
        "sop": "120,053 images (59,551 train, 60,502 test) of 11,318 train, 11,316 test classes",
    }
    assert wanted[module.NAME] in said
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("images", "classes"),
    [((4, 5), (2, 2)), ((5, 3), (2, 2)), ((4, 4), (2, 3)), ((4, 4), (1, 3))],
)
def test_images_and_classes_have_to_be_right(fetched, images, classes):
    counts = fake_archives.Expected(
        *(dict(zip(("train", "test"), pair, strict=True)) for pair in (images, classes))
    )
    with pytest.raises(UserError, match="is not the official data set"):
        fetched(cub200, {"CUB_200_2011.tgz": fake_archives.cub()}, counts)


@pytest.mark.parametrize(
    ("module", "member"),
    [
        (cub200, "CUB_200_2011/classes.txt"),
        (cub200, "CUB_200_2011/images.txt"),
        (cub200, "CUB_200_2011/image_class_labels.txt"),
        (sop, "Stanford_Online_Products/Ebay_test.txt"),
    ],
)
def test_a_list_that_is_not_there(fetched, module, member):
    name, files, counts = HERE[module]
    archive = files()
    del archive[member]
    with pytest.raises(UserError, match=f"{name} holds no {member}"):
        fetched(module, {name: archive}, counts)


def test_an_image_listed_twice(fetched):
    files = fake_archives.sop()
    train = files["Stanford_Online_Products/Ebay_train.txt"]
    files["Stanford_Online_Products/Ebay_train.txt"] = train + train.splitlines(True)[1]
    with pytest.raises(UserError, match=r"lists .*bicycle_final/1_1\.JPG more than once"):
        fetched(sop, {"Stanford_Online_Products.zip": files}, fake_archives.SOP_COUNTS)


PUBLISHED = (cub200, cars196, sop, inshop, omniglot)


def test_totals_of_the_literature():
    images = {m.NAME: sum(m.EXPECTED.images.values()) for m in PUBLISHED}
    classes = {m.NAME: sum(m.EXPECTED.classes.values()) for m in PUBLISHED}
    assert images == {
        "cub200": 11_788,
        "cars196": 16_185,
        "sop": 120_053,
        "inshop": 52_712,
        "omniglot": 32_460,
    }
    assert classes == {
        "cub200": 200,
        "cars196": 196,
        "sop": 22_634,
        "inshop": 7_982,
        "omniglot": 1_623,
    }


def test_the_page_has_every_data_set_with_its_counts_and_settings():
    page = (ROOT / "docs/datasets.md").read_text()
    table = {row[1]: row[0] for row in re.finditer(r"^\| \[`(\w+)`\].*$", page, re.MULTILINE)}
    assert sorted(table) == sorted(path.stem for path in (ROOT / "conf/dataset").glob("*.yaml"))
    for module in PUBLISHED:
        for count in (*module.EXPECTED.images.values(), sum(module.EXPECTED.images.values())):
            assert f"{count:,}" in table[module.NAME]
        assert f"{sum(module.EXPECTED.classes.values()):,}" in table[module.NAME]
    for name, row in table.items():
        recall = OmegaConf.load(ROOT / f"conf/dataset/{name}.yaml").recall_at
        assert row.endswith(f"| {', '.join(map(str, recall))} |")


def test_every_command_of_the_page_composes():
    page = (ROOT / "docs/datasets.md").read_text()
    commands = re.findall(r"^dvc exp run (.*)$", page, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command)
        assert set(words[::2]) == {"-S"}
        chosen = composed(*words[1::2]).dataset.name
        assert chosen == (re.findall(r"-S dataset=(\w+)", command) or ["folder"])[0]


def test_what_a_person_has_to_place_is_named_whole(tmp_path):
    with pytest.raises(Unavailable) as caught:
        inshop.fetch(tmp_path / "data" / "raw", "recipe", Shelf(tmp_path))
    said = str(caught.value)
    for wanted in ("img.zip", "list_eval_partition.txt", str(tmp_path / "inshop"), inshop.PAGE):
        assert wanted in said
    assert not (tmp_path / "data").exists()
