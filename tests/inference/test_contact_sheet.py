"""The contact sheet: every picture and name, and nothing that a name could smuggle in."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from tiny_project import png

from rhs.inference.contact_sheet import QUERY_SIDE, write_sheet
from rhs.inference.index import Hit
from rhs.inference.index_items import Item

EVIL = '<script>alert("1")</script>'


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', page)
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for _, data in found]
    assert [image.format.lower() for image in images] == [kind for kind, _ in found]
    return images


def test_queries_and_neighbors_in_order(tmp_path):
    red, blue = (png(np.full((20, 30, 3), c, np.uint8)) for c in ([255, 0, 0], [0, 0, 255]))
    buffer = io.BytesIO()
    Image.new("RGB", (400, 200), "lime").save(buffer, "JPEG")
    found = [
        [Hit(0.98765, Item("a/1.png", "a", "test", red)), Hit(-0.5, Item("b/2", "b", "test", b""))],
        [Hit(0.25, Item(f"{EVIL}/3", EVIL, "val", blue))],
    ]
    out = tmp_path / "sheet.html"
    write_sheet(out, [("one.jpg", buffer.getvalue()), (EVIL, blue)], found, "5 images <&>")
    page = out.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [out]
    images = pictures(page)
    assert [image.size for image in images] == [(QUERY_SIDE, 72), (30, 20), (30, 20), (30, 20)]
    assert [np.array(image)[9, 9].argmax() for image in images] == [1, 0, 2, 2]
    first, second = page.split("<section>")[1:]
    assert first.index("one.jpg") < first.index("0.988") < first.index("-0.500")
    assert "a/1.png" in first
    assert "no thumbnail" in first
    assert "0.250" in second
    assert "<script" not in page
    assert (
        page.count("&lt;script&gt;") == 5
    )  # both names, the class, and what describes the two pictures
    assert "5 images &lt;&amp;&gt;" in page
    assert "http" not in page, "self-contained"


def test_a_sheet_that_cannot_be_drawn_leaves_the_old_one(tmp_path):
    out = tmp_path / "sheet.html"
    out.write_text("old")
    with pytest.raises(OSError, match="cannot identify"):
        write_sheet(out, [("a", b"junk")], [[]], "")
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]
