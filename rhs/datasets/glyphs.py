"""An embedded data set of real letterforms: class = character, image = typeface.

Source: the text typefaces that matplotlib ships, so nothing is downloaded. The pictures depend on
the pinned versions of matplotlib (the typefaces) and Pillow (FreeType), and on nothing else.
"""

import io
import re
import tarfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

from fontTools import agl
from fontTools.ttLib import TTFont
from PIL import Image, ImageFont
from tqdm import tqdm

from rhs.datasets.archive import add_to_tar, list_tar
from rhs.datasets.download.downloads import Downloads
from rhs.datasets.folder import name_classes
from rhs.datasets.raw_folder import write_raw
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import RAW

# Regular and bold, upright and slanted. Left out: Display (a few signs), Computer Modern's math
# fonts (cmex, cmmi, cmsy), STIX's private and size variants, and LastResort, which draws boxes.
TEXT_FACES = re.compile(
    r"(DejaVu(Sans|SansMono|Serif)(-\w+)?|STIXGeneral\w*|cm(b|r|ss|ti|tt)10)\.ttf"
)
EM = 0.77  # of the canvas: the tallest marks (1.26 em) then fit without being shrunk
PAPER, INK = 255, 0

Picture = tuple[tuple[int, int], bytes]  # (width, height) of the ink and its coverage, row by row
Pictures = dict[str, dict[int, Picture]]  # face -> code point -> picture


def fetch(
    out: Path,
    source: str,
    downloads: Downloads | None = None,
    size: int = 48,
    min_faces: int = 12,
) -> dict[str, Any]:
    """Render the data set into the raw folder `out`: `glyphs.tar` and its index.

    A character belongs if at least `min_faces` typefaces draw it with some ink. Every face is set
    at one size, 0.77 `size` pixels per em, so that `o` stays smaller than `O`; a drawing that is
    wider than the canvas is set smaller until it fits. The ink is centered, so position tells
    nothing. Black on white, grayscale, `size` x `size` pixels.

    No two images of the result are identical, because an exact copy in the gallery answers its
    query for free, and one with another label makes the right answer wrong. In this order:

    1. Two characters are one class if at least half of the faces that draw both draw them
       identically (Latin A, Greek Alpha, Cyrillic A). "In any face" would join too much: an
       italic Cyrillic te looks like m in one face, and the class would be two letterforms.
    2. A drawing that two classes still share is dropped from both: its label is ambiguous.
    3. A class keeps one image per face, of its lowest code point there, and of faces that draw it
       identically only the first by name.
    4. A class with a single image left (box drawing: the same in all faces) is dropped.

    Nothing is downloaded. The class is named after its lowest code point, "U+00041 LATIN CAPITAL
    LETTER A": sorted names are in code-point order. Every count is in `source.json`, under "notes".

    Returns:
        What `out/source.json` says.
    """
    faces = _faces()
    drawn, notes = _draw(faces, size, min_faces)
    classes = _merge(drawn)
    notes["merged_characters"] = notes["characters"] - len(set(classes.values()))
    images = _distinct(drawn, classes, notes)
    with atomic_folder(out, RAW) as raw:
        with tarfile.open(raw / "glyphs.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for (code, face), picture in tqdm(sorted(images.items()), "glyphs", disable=None):
                add_to_tar(tar, f"{class_name(code)}/{face}.png", _png(picture, size))
        listing = list_tar(raw / "glyphs.tar", "glyphs.tar", raw / "glyphs.tar")
        found, classless = name_classes(listing.found)
        assert not [*classless, *listing.refused]
        return write_raw(raw, out.name, source, found, notes=notes)


def class_name(code: int) -> str:
    """The folder name of a character's class; sorts by code point, plain ASCII."""
    return f"U+{code:05X} {unicodedata.name(chr(code), '')}".rstrip()


def _faces() -> dict[str, tuple[Path, set[int]]]:
    """Typeface name -> (file, code points it draws), sorted by name."""
    import matplotlib

    faces = {}
    for path in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").iterdir()):
        if not TEXT_FACES.fullmatch(path.name):
            continue
        with TTFont(path, lazy=True) as font:
            glyph_names = font.getBestCmap()
        # Computer Modern is coded as TeX wants it: at U+00A1 lies a Gamma. Its glyphs' names tell
        # where a code point means the character. The other faces are plain Unicode.
        tex = path.name.startswith("cm")
        codes = {c for c, n in glyph_names.items() if not tex or agl.toUnicode(n) == chr(c)}
        faces[path.stem] = (path, codes)
    return faces


def _draw(
    faces: dict[str, tuple[Path, set[int]]], size: int, min_faces: int
) -> tuple[Pictures, dict[str, int]]:
    coverage = Counter(code for _, codes in faces.values() for code in codes)
    covered = sorted(code for code, n in coverage.items() if n >= min_faces)
    drawn: Pictures = {}
    for face, (path, codes) in faces.items():
        fonts: dict[int, ImageFont.FreeTypeFont] = {}
        pictures = ((c, _picture(path, chr(c), size, fonts)) for c in covered if c in codes)
        drawn[face] = {code: picture for code, picture in pictures if picture is not None}
    inked = Counter(code for pictures in drawn.values() for code in pictures)
    enough = {code for code in covered if inked[code] >= min_faces}
    drawn = {f: {c: p for c, p in ps.items() if c in enough} for f, ps in drawn.items()}
    return drawn, {
        "faces": len(faces),
        "characters_covered": len(covered),
        "blank_characters": len(covered) - len(enough),
        "characters": len(enough),
        "drawings": sum(len(pictures) for pictures in drawn.values()),
    }


def _picture(
    path: Path, character: str, size: int, fonts: dict[int, ImageFont.FreeTypeFont]
) -> Picture | None:
    """The character's ink, cropped, at most `size` - 2 wide and high; None if there is no ink."""
    pixels = round(EM * size)
    while True:
        if pixels not in fonts:
            # The basic layout: raqm, where it is installed, would place combining marks otherwise.
            layout = ImageFont.Layout.BASIC
            fonts[pixels] = ImageFont.truetype(str(path), pixels, layout_engine=layout)
        mask = fonts[pixels].getmask(character, mode="L")
        box = mask.getbbox()
        if box is None:
            return None
        largest = max(box[2] - box[0], box[3] - box[1])
        if largest <= size - 2:
            ink = mask.crop(box)
            return ink.size, bytes(ink)
        pixels = min(pixels - 1, pixels * (size - 2) // largest)


def _merge(drawn: Pictures) -> dict[int, int]:
    """Code point -> the lowest code point of its class (rule 1 of `fetch`)."""
    alike: Counter[tuple[int, int]] = Counter()
    for pictures in drawn.values():
        for codes in _by_picture(pictures.items()).values():
            alike.update(combinations(sorted(codes), 2))
    lowest = {code: code for pictures in drawn.values() for code in pictures}

    def find(code: int) -> int:
        while lowest[code] != code:
            code = lowest[code]
        return code

    for (a, b), faces in alike.items():
        shared = sum(a in pictures and b in pictures for pictures in drawn.values())
        if 2 * faces >= shared:
            a, b = sorted((find(a), find(b)))
            lowest[b] = a
    return {code: find(code) for code in lowest}


def _by_picture(items: Iterable[tuple[int, Picture]]) -> dict[Picture, set[int]]:
    groups: dict[Picture, set[int]] = defaultdict(set)
    for code, picture in items:
        groups[picture].add(code)
    return groups


def _distinct(
    drawn: Pictures, classes: dict[int, int], notes: dict[str, int]
) -> dict[tuple[int, str], Picture]:
    """(class, face) -> picture, by rules 2 to 4 of `fetch`; adds what was dropped to `notes`."""
    owners = _by_picture((classes[c], p) for ps in drawn.values() for c, p in ps.items())
    per_face: dict[tuple[int, str], Picture] = {}
    notes |= {"ambiguous_drawings": 0, "same_face_drawings": 0}
    for face, pictures in drawn.items():
        for code, picture in sorted(pictures.items()):
            if len(owners[picture]) > 1:
                notes["ambiguous_drawings"] += 1
            elif (classes[code], face) in per_face:
                notes["same_face_drawings"] += 1
            else:
                per_face[classes[code], face] = picture
    first: dict[Picture, tuple[int, str]] = {}
    for key, picture in sorted(per_face.items()):
        first.setdefault(picture, key)
    sizes = Counter(code for code, _ in first.values())
    images = {key: picture for picture, key in first.items() if sizes[key[0]] > 1}
    notes["copies_between_faces"] = len(per_face) - len(first)
    notes["single_drawings"] = len(first) - len(images)
    notes["classes_dropped"] = len(set(classes.values())) - len({code for code, _ in images})
    return images


def _png(picture: Picture, size: int) -> bytes:
    (width, height), coverage = picture
    canvas = Image.new("L", (size, size), PAPER)
    ink = Image.frombytes("L", (width, height), coverage)
    canvas.paste(INK, ((size - width) // 2, (size - height) // 2), ink)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()
