"""Small archives in the layout of the published data sets, and what brings them."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from tiny_project import class_image

from rhs.datasets.cars196 import CLASSES
from rhs.datasets.download.downloads import RemoteFile, Unavailable
from rhs.datasets.published import Expected
from rhs.datasets.raw_folder import read_raw

Files = dict[str, bytes]
CAR_IDS = (1, 2, 98, 99, 174, 196)
CAR_COUNTS = Expected({"train": 6, "test": 6}, {"train": 3, "test": 3})
CUB_COUNTS = Expected({"train": 4, "test": 4}, {"train": 2, "test": 2})
SOP_COUNTS = Expected({"train": 4, "test": 4}, {"train": 2, "test": 2})
INSHOP_COUNTS = Expected({"train": 4, "query": 2, "gallery": 4}, {"train": 2, "test": 2})
OMNIGLOT_COUNTS = Expected({"train": 4, "test": 4}, {"train": 2, "test": 2})


class Shelf:
    """In the place of `rhs.datasets.download.downloads.Downloads`, without digests and network.

    Files lie in `folder`/<data set>; those in `folder`/online only come by a public address.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def get(self, file: RemoteFile, dataset: str) -> Path:
        self.asked.append(file.name)
        path = self.folder / dataset / file.name
        online = self.folder / "online" / file.name
        if path.exists():
            return path
        if file.urls and online.exists():
            return online
        raise Unavailable(f"{file.name} could not be had: put it at {path}.")


def put(folder: Path, name: str, content: Files | bytes) -> Path:
    """Write a file, or an archive of files by its name's ending."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in content.items():
                archive.writestr(member, data)
    else:
        with tarfile.open(path, "w" if name.endswith(".tar") else "w:gz") as tar:
            for member, data in content.items():
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path


def jpeg(label: int, number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(class_image(label, number)).save(buffer, "JPEG")
    return buffer.getvalue()


def indexed(raw: Path) -> dict[str, dict]:
    """The index by name; the bytes of each image were found in the raw folder, by its checksum."""
    rows = {row["name"]: row for row in read_raw(raw)[0].to_pylist()}
    for file in {row["file"] for row in rows.values()}:
        assert not Path(file).is_absolute()
        data = (raw / file).read_bytes()
        for row in rows.values():
            if row["file"] == file:
                bytes_of_it = data[row["offset"] : row["offset"] + row["size"]]
                assert hashlib.sha256(bytes_of_it).hexdigest() == row["sha256"]
    return rows


def splits_of(raw: Path) -> dict[str, str]:
    """Class name -> split, or the splits."""
    found: dict[str, set[str]] = {}
    for row in indexed(raw).values():
        found.setdefault(row["class_name"], set()).add(row["split"])
    return {name: " ".join(sorted(splits)) for name, splits in found.items()}


def lines(*rows: Sequence[object]) -> bytes:
    return "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()


def cub() -> Files:
    """Four species whose folders are sorted otherwise than their ids."""
    classes = {1: "001.Wren", 100: "100.Auk", 101: "101.Crow", 200: "200.Bunting"}
    names = [(c, f"{folder}/{folder[4:]}_{n}.jpg") for c, folder in classes.items() for n in (1, 2)]
    files = {f"CUB_200_2011/images/{name}": jpeg(c, i) for i, (c, name) in enumerate(names)}
    return {
        "attributes.txt": b"1 has_bill\n",
        "CUB_200_2011/README": b"birds",
        "CUB_200_2011/images/._hidden.jpg": b"a resource fork",
        "CUB_200_2011/classes.txt": lines(*classes.items()),
        "CUB_200_2011/images.txt": lines(*((i, name) for i, (_, name) in enumerate(names, 1))),
        "CUB_200_2011/image_class_labels.txt": lines(
            *((i, c) for i, (c, _) in enumerate(names, 1))
        ),
        **files,
    }


def sop() -> Files:
    root = "Stanford_Online_Products"
    rows = [
        (n, c, s, f"{kind}_final/{c}_{n}.JPG")
        for c, s, kind in (
            (1, 1, "bicycle"),
            (2, 4, "coffee_maker"),
            (11319, 1, "bicycle"),
            (22634, 12, "toaster"),
        )
        for n in (1, 2)
    ]
    header = ("image_id", "class_id", "super_class_id", "path")
    return {
        f"{root}/Ebay_info.txt": lines(header, *rows),
        f"{root}/Ebay_train.txt": lines(header, *(row for row in rows if row[1] < 11319)),
        f"{root}/Ebay_test.txt": lines(header, *(row for row in rows if row[1] >= 11319)),
        f"{root}/bicycle_final.txt": b"",
        "__MACOSX/Stanford_Online_Products/._Ebay_info.txt": b"",
        **{f"{root}/{row[3]}": jpeg(row[1], row[0]) for row in rows},
    }


def inshop(root: str = "img/") -> tuple[Files, bytes]:
    """The images and the list, in which one item has images of two kinds of clothes."""
    rows = [
        ("WOMEN/Dresses/id_00000001/01_1_front.jpg", "id_00000001", "train"),
        ("WOMEN/Skirts/id_00000001/01_2_side.jpg", "id_00000001", "train"),
        ("MEN/Denim/id_00000003/01_1_front.jpg", "id_00000003", "train"),
        ("MEN/Denim/id_00000003/01_2_side.jpg", "id_00000003", "train"),
        ("MEN/Denim/id_00000002/01_1_front.jpg", "id_00000002", "query"),
        ("MEN/Denim/id_00000002/02_1_front.jpg", "id_00000002", "gallery"),
        ("MEN/Denim/id_00000002/02_2_side.jpg", "id_00000002", "gallery"),
        ("WOMEN/Tees/id_00000004/01_1_front.jpg", "id_00000004", "query"),
        ("WOMEN/Tees/id_00000004/01_2_side.jpg", "id_00000004", "gallery"),
        ("WOMEN/Tees/id_00000004/01_3_back.jpg", "id_00000004", "gallery"),
    ]
    text = "".join(f"img/{name:<60} {item}   {split}\n" for name, item, split in rows)
    header = f"{len(rows)}\nimage_name item_id evaluation_status\n"
    files = {root + name: jpeg(int(item[3:]), i) for i, (name, item, _) in enumerate(rows)}
    return files, (header + text).encode()


def omniglot(name: Callable[[str, str], str]) -> Files:
    """Two alphabets of two characters each; `name` makes a folder of alphabet and character."""
    alphabets = {"images_background": "Malay_(Jawi_-_Arabic)", "images_evaluation": "Aurek-Besh"}
    return {
        f"{part}/{name(alphabet, f'character{c:02d}')}/{c:04d}_{n:02d}.png": jpeg(c, n)
        for part, alphabet in alphabets.items()
        for c in (1, 2)
        for n in (1, 2)
    }


def annotations(path_field: str, labels: list[tuple[str, int]]) -> bytes:
    """A .mat file of the kind that comes with Cars196."""
    rows = [(name, 10, np.uint8(class_id)) for name, class_id in labels]
    kinds = [(path_field, object), ("bbox_x1", object), ("class", object)]
    buffer = io.BytesIO()
    savemat(buffer, {"annotations": np.array([rows], dtype=kinds)})
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]  # without the time of day


def cars(packing: str) -> dict[str, Files | bytes]:
    """Two images of each of `CAR_IDS` as each packing has them: file name -> content."""
    pictures = [(c, n) for c in CAR_IDS for n in (0, 1)]
    ims = [(f"{i:06d}.jpg", c, n) for i, (c, n) in enumerate(pictures, 1)]
    original = {f"car_ims/{name}": jpeg(c, n) for name, c, n in ims}
    mat = annotations("relative_im_path", [(f"car_ims/{name}", c) for name, c, _ in ims])
    if packing == "original":
        return {"car_ims.tgz": original, "cars_annos.mat": mat}
    if packing == "CARS196.zip":
        inside = {f"cars196/{name}": data for name, data in original.items()}
        return {packing: {**inside, "cars196/cars_annos.mat": mat}}
    halves = [[(f"{i:05d}.jpg", c, n) for i, c in enumerate(CAR_IDS, 1)] for n in (0, 1)]
    if packing == "classification":
        train, test = ([(name, c) for name, c, _ in half] for half in halves)
        return {
            "cars_train.tgz": {f"cars_train/{name}": jpeg(c, n) for name, c, n in halves[0]},
            "cars_test.tgz": {f"cars_test/{name}": jpeg(c, n) for name, c, n in halves[1]},
            "car_devkit.tgz": {"devkit/cars_train_annos.mat": annotations("fname", train)},
            "cars_test_annos_withlabels.mat": annotations("fname", test),
        }
    return {
        packing: {
            f"car_data/car_data/{part}/{kaggle_name(c)}/{name}": jpeg(c, n)
            for part, half in zip(("train", "test"), halves, strict=True)
            for name, c, n in half
        }
        | {"names.csv": b"AM General Hummer SUV 2000\n"}
    }


def kaggle_name(class_id: int) -> str:
    name = CLASSES[class_id - 1].partition(".")[2].replace("_", " ")
    return name.replace("Ram C V", "Ram C-V")
