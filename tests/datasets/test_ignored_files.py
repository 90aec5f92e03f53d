"""What systems and programs leave among images, in folders and in archives."""

import csv
import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from rhs.datasets.folder import fetch
from rhs.datasets.ignored_files import is_system
from rhs.datasets.raw_folder import read_raw
from rhs.errors import UserError

IMAGES = tuple(f"{c}/{i}.jpg" for c in "abcdef" for i in range(2))
LEFT = (
    "a/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
    "#recycle/x.jpg",
    "@tmp/x.jpg",
    "$RECYCLE.BIN/x.jpg",
    "System Volume Information/x.jpg",
    "lost+found/x.jpg",
    ".Trash-1000/files/x.jpg",
    "__MACOSX/a/._0.jpg",
    "a/._0.jpg",
    "a/Thumbs.db",
    "a/ehthumbs.db",
    "a/Desktop.ini",
    "a/Icon\r",
    "a/.DS_Store",
    "a/.dtrash/x.jpg",
    "a/.picasa.ini",
    "a/Picasa.ini",
    ".thumbnails/x.png",
    "a/.ipynb_checkpoints/0-checkpoint.jpg",
    ".recycle/x.jpg",
    "@Recycle/x.jpg",
    ".stfolder/x",
    "a/0.jpg:Zone.Identifier",
    ".AppleDouble/0.jpg",
    "a/0.jpg.crdownload",
    "a/0.jpg~",
    "a/0.jpg_original",
    "a/0.thm",
    "a/CaptureOne/x.jpg",
    "Catalog Previews.lrdata/1/x.jpg",
    "a/Network Trash Folder/x.jpg",
)


def jpeg(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def listed(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return {row["name"]: row["why"] for row in csv.DictReader(stream)}


def names(raw: Path) -> set[str]:
    return set(read_raw(raw)[0]["name"].to_pylist())


@pytest.mark.parametrize("make", [tree, packed])
def test_what_systems_leave_is_passed_over_and_counted(tmp_path, capsys, make):
    files = dict.fromkeys((*IMAGES, *LEFT), b"x")
    made = fetch(tmp_path / "raw", str(make(tmp_path / "in", files)))
    assert (made["classes"], made["refused"]) == (6, [])
    assert names(tmp_path / "raw") == set(IMAGES)
    assert made["notes"] == {"hidden_files_skipped": len(LEFT)}
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"{len(LEFT)} file of a system; all in {tmp_path / 'raw' / 'passed_over.csv'}" in said
    assert len(listed(tmp_path / "raw" / "passed_over.csv")) == len(LEFT)


@pytest.mark.parametrize(
    "name",
    [
        "recycled/a.jpg",
        "trash/a.jpg",
        "thumbs/a.jpg",
        "a/Thumbs.jpg",
        "tmp/a.jpg",
        "desktop/i.png",
        "thumbnails/a.jpg",
        "a/icon.png",
        "eadir/a.jpg",
        "captureone.jpg",
    ],
)
def test_names_that_a_person_may_give_are_kept(name):
    assert not is_system(name)


def test_annotations_beside_images_are_passed_over(tmp_path, capsys):
    """None of them counts as a bad image; a folder of nothing else is named."""
    beside = [n.replace(".jpg", e) for n in IMAGES for e in (".json", ".txt", ".xmp", ".AAE")]
    more = ["labels/1.txt", "Annotations/1.xml", "a/README", "LICENSE", "a/classes.npy", "x.yaml"]
    files = dict.fromkeys(IMAGES, b"x") | dict.fromkeys([*beside, *more], b"{}")
    made = fetch(tmp_path / "raw", str(tree(tmp_path / "in", files)))
    assert (made["images"], made["classes"], made["refused"]) == (12, 6, [])
    assert made["notes"]["other_files"] == 54
    said = capsys.readouterr().out
    assert "54 not an image by its ending (.txt 13, " in said
    assert ".json 12" in said
    assert "no image lies right in Annotations, labels" in said


def test_images_and_labels_in_folders_of_their_own(tmp_path):
    files = {f"images/{n}": b"x" for n in IMAGES} | {
        f"labels/{n.replace('jpg', 'txt')}": b"0 0" for n in IMAGES
    }
    fetch(tmp_path / "raw", str(tree(tmp_path / "in", files)))
    assert names(tmp_path / "raw") == set(IMAGES)


def test_an_image_without_an_ending_of_one_is_told_by_its_content(tmp_path):
    files = dict.fromkeys(IMAGES, b"x") | {"a/none": jpeg(), "b/x.dat": jpeg("PNG"), "c/y": b"y"}
    files |= {"d/film.mov": b"\0\0\0\x14ftypqt  ", "d/page.pdf": b"%PDF-1.4"}
    fetch(tmp_path / "raw", str(tree(tmp_path / "in", files)))
    assert names(tmp_path / "raw") == {*IMAGES, "a/none", "b/x.dat"}
    passed = listed(tmp_path / "raw" / "passed_over.csv")
    assert passed["c/y"] == "not an image by its ending: none"
    assert "video; take its frames" in passed["d/film.mov"]
    assert "PDF; draw its pages" in passed["d/page.pdf"]


def test_other_versions_of_a_picture(tmp_path):
    """A raw file is refused, but where its JPEG is beside it: then that is the picture."""
    conflict = "b/1 (Ann's conflicted copy 2024-01-02).jpg"
    files = dict.fromkeys(IMAGES, b"x") | dict.fromkeys(
        (
            "a/0.CR2",
            "a/1.heic",
            "a/9.NEF",
            "a/8.HEIC",
            "b/0.sync-conflict-20240102-010203-ABC.jpg",
            conflict,
            "c/7 (conflicted copy 2024).jpg",
            "c/5.jpg.nextcloud",
            "c/.6.jpg.icloud",
        ),
        b"x",
    )
    made = fetch(tmp_path / "raw", str(tree(tmp_path / "in", files)))
    passed = listed(tmp_path / "raw" / "passed_over.csv")
    refused = listed(tmp_path / "raw" / "refused.csv")
    assert set(passed) == {
        "a/0.CR2",
        "a/1.heic",
        "b/0.sync-conflict-20240102-010203-ABC.jpg",
        conflict,
    }
    assert "camera raw, which is not read: develop it" in refused["a/9.NEF"]
    assert refused["c/5.jpg.nextcloud"].startswith("placeholder")
    assert set(refused) == {"a/9.NEF", "c/5.jpg.nextcloud", "c/.6.jpg.icloud"}
    assert {r["name"]: r["why"] for r in made["refused"]} == refused
    assert names(tmp_path / "raw") == {*IMAGES, "a/8.HEIC", "c/7 (conflicted copy 2024).jpg"}


def test_links_out_of_the_folder_are_told_how_to_follow(tmp_path):
    """As in the snapshot of a hub."""
    store = tree(tmp_path / "blobs", dict.fromkeys(IMAGES, b"x"))
    for name in IMAGES:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).symlink_to(store / name)
    with pytest.raises(UserError, match=f"found none.* cp -rL {tmp_path / 'in'} COPY") as caught:
        fetch(tmp_path / "data" / "raw", str(tmp_path / "in"))
    assert "\n" not in str(caught.value)
    assert set(listed(tmp_path / "data" / "raw.refused.csv")) == set(IMAGES)


def test_too_few_images_say_what_was_passed_over_and_where_it_is_listed(tmp_path):
    files = {n.replace(".jpg", ".txt"): b"x" for n in IMAGES}
    said = (
        rf"found none.* 12 not an image by its ending \(.txt 12\).* in {tmp_path}/raw.passed_over"
    )
    with pytest.raises(UserError, match=said):
        fetch(tmp_path / "raw", str(tree(tmp_path / "in", files)))
    assert len(listed(tmp_path / "raw.passed_over.csv")) == 12


def test_archives_inside_are_named(tmp_path):
    inner = packed(tmp_path / "inner.zip", dict.fromkeys(IMAGES, b"x")).read_bytes()
    with pytest.raises(UserError, match=r"not opened: unpack all/train.zip, and give the folder"):
        fetch(tmp_path / "raw", str(packed(tmp_path / "x.zip", {"all/train.zip": inner})))
