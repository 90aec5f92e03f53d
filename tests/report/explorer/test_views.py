"""The explorer page in a real browser: its map, two runs side by side, and unusual data."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from browser import complaints
from explorer_page import K, Page, nearest, wrong
from pages import NASTY, FakeImages, clusters, write


def test_the_map_shows_pictures_and_takes_clicks(page):
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = page.one("#panel-map canvas")
    page.js("arguments[0].scrollIntoView({block: 'center'})", canvas)
    size = canvas.size
    data = page.js("return JSON.parse(document.getElementById('explorer-data').textContent)")
    # Shown whole and centered, with a margin of 24 pixels: the point that lies furthest right.
    x, y = np.array(data["map"]["x"]), np.array(data["map"]["y"])
    scale = min((size["width"] - 48) / x.max(), (size["height"] - 48) / y.max())
    at = int(x.argmax())
    px = (size["width"] - scale * x.max()) / 2 + scale * x[at] - size["width"] / 2
    py = (size["height"] - scale * y.max()) / 2 + scale * y[at] - size["height"] / 2
    image = data["map"]["images"][at]
    assert not page.one(".tip").is_displayed()
    mouse = ActionChains(page.driver)
    mouse.move_to_element_with_offset(canvas, round(px), round(py)).perform()
    page.wait(lambda: page.one(".tip").is_displayed())
    tip = page.one(".tip")
    assert (
        tip.find_element("css selector", "img").get_attribute("src")
        == (data["pictures"][data["thumbs"][image]])
    )
    assert data["names"][image] in tip.text
    assert data["classes"][data["labels"][image]] in tip.text
    mouse.click().perform()
    assert page.query == image
    before = page.js("return arguments[0].toDataURL()", canvas)
    canvas.send_keys("+")
    zoomed = page.js("return arguments[0].toDataURL()", canvas)
    assert zoomed != before
    query = page.query
    canvas.send_keys("\ue014")  # the right arrow moves the map, not the query
    assert page.js("return arguments[0].toDataURL()", canvas) != zoomed
    assert page.query == query
    canvas.send_keys("0")
    assert page.js("return arguments[0].toDataURL()", canvas) == before


def test_the_map_stays_as_it_was_left_and_leaves_the_wheel_to_the_page(page):
    canvas = page.one("#panel-map canvas")
    picture = "return arguments[0].toDataURL()"
    wheel = (
        "return arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: 200, "
        "cancelable: true, ctrlKey: arguments[1]}))"
    )
    before = page.js(picture, canvas)
    assert page.js(wheel, canvas, False)  # not prevented: it scrolls the page
    assert page.js(picture, canvas) == before
    assert not page.js(wheel, canvas, True)
    zoomed = page.js(picture, canvas)
    assert zoomed != before
    page.press("l", "m")
    page.js("return new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
    assert page.js(picture, canvas) == zoomed


def test_tables_count_all_queries_and_open_those_on_the_page(chromium, tmp_path, made):
    _, similarity, _, labels = made
    write(tmp_path, *clusters(60, 6), settings={"explorer_images": 25})
    page = Page(chromium).open(tmp_path / "explorer.html")
    failing = wrong(similarity, labels)
    page.press("p")
    rows = page.all("#confusions tbody tr")
    counts = [int(row.find_elements("css selector", ".number")[0].text) for row in rows]
    assert sum(counts) == len(failing)
    assert "Of all 60 queries" in page.one("#panel-confusions .lead").text
    page.press("l")
    rows = page.all("#classes tbody tr")
    assert len(rows) == 6
    assert [row.find_elements("css selector", "td")[1].text for row in rows] == ["10"] * 6
    assert len(page.all("#classes tbody button")) == 2  # the classes drawn
    page.click("#classes tbody button")
    assert page.listed == 10
    page.press("x", "p")
    opened = page.all("#confusions tbody button")
    assert 0 < len(opened) < len(page.all("#confusions tbody tr"))
    opened[0].click()
    assert page.query in failing
    assert complaints(chromium) == []


def test_two_runs_side_by_side(page, made):
    folder, here, there, labels = made
    page.one("#compare-file").send_keys(str(folder / "there" / "explorer.html"))
    page.wait(lambda: page.all(".strip.foreign"))
    assert not page.one("#notice").is_displayed()
    assert f"second {NASTY}" in page.one(".strip.foreign h3").text
    wrong_here, wrong_there = wrong(here, labels), wrong(there, labels)
    recalls = [cell.text for cell in page.all("#runs .headline")]
    assert recalls == [f"{100 - 100 * len(w) / 60:.1f} %" for w in (wrong_here, wrong_there)]
    for outcome, expected in (
        ("here", wrong_here - wrong_there),
        ("there", wrong_there - wrong_here),
        ("both", wrong_here & wrong_there),
    ):
        page.click(f"[data-outcome={outcome}]")
        assert page.listed == len(expected) > 0, outcome
        assert page.query in expected
        tiles = page.all(".strip.foreign .tile")
        found = [int(t.get_attribute("title").rsplit("/")[-1][:-4]) for t in tiles]
        assert found == nearest(there, page.query)
        assert page.neighbors == nearest(here, page.query)
    page.click("#compare-close")
    assert not page.all(".strip.foreign")
    assert page.listed == 60


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "is a run on other data: made-up, 24 test images of 4 classes, while this page"),
        (lambda data: "hello", "is no explorer page of a report."),
        (lambda data: data | {"format": "rhs-explorer-0"}, "another version of the report"),
        (lambda data: data | {"labels": [*data["labels"][1:], 6]}, "is damaged: labels."),
        (lambda data: data | {"pictures": ["https://x/y.png"] * 60}, "is damaged: pictures."),
        (lambda data: data | {"hits": [2.0] * 60}, "is damaged: hits."),
        (lambda data: data | {"neighbors": [[60]] * 60}, "is damaged: neighbors."),
        (lambda data: data | {"pairs": [[0, 6, 1]]}, "is damaged: pairs."),
    ],
)
def test_what_cannot_be_compared_is_refused(page, made, tmp_path, change, said):
    path = made[0] / "else" / "explorer.html"
    if change is not None:
        opening = 'id="explorer-data">'
        head, _, rest = (made[0] / "there" / "explorer.html").read_text().partition(opening)
        data = change(json.loads(rest[: rest.index("<")]))
        path = tmp_path / "other.html"
        text = json.dumps(data).replace("<", "\\u003c")
        path.write_text(data if data == "hello" else f"{head}{opening}{text}</script>")
    page.one("#compare-file").send_keys(str(path))
    page.wait(lambda: page.one("#notice").is_displayed())
    assert said in page.one("#notice").text
    assert path.name in page.one("#notice").text
    assert not page.all(".strip.foreign")


def test_images_of_the_gallery_ask_nothing(chromium, tmp_path):
    embeddings, labels = clusters(60, 6)
    queries = np.arange(60) % 5 < 2
    images = FakeImages(labels, queries=queries)
    write(tmp_path, embeddings, labels, shards={"test": images})
    page = Page(chromium).open(tmp_path / "explorer.html")
    assert page.listed == queries.sum()
    assert not queries[page.neighbors].any()
    page.press("1")
    assert not queries[page.query]
    assert "asks nothing" in page.one("#verdict").text
    assert not page.all(".strip")
    assert "36 images in the gallery" in page.one("#facts").text
    assert complaints(chromium) == []


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([], "There are no test images"),
        ([0], "There is nothing to compare it with."),
        ([0] * 8, "Right"),
        ([0, 1, 2], "it is not counted"),
    ],
)
def test_little_data_still_makes_a_page(chromium, tmp_path, labels, said):
    embeddings = np.random.default_rng(0).normal(size=(len(labels), 8)).astype(np.float32)
    write(tmp_path, embeddings, np.array(labels, dtype=np.int64))
    page = Page(chromium).open(tmp_path / "explorer.html")
    assert said in page.one("#query").text
    for key in "jkrfx1plt":
        page.press(key)
    assert complaints(chromium) == []


def test_five_thousand_images_stay_fluid(chromium, tmp_path):
    """A sample of 5,000 out of 6,000, with as many different pictures, within two seconds."""
    from rhs.report.explorer.page import write_explorer
    from rhs.report.explorer.page_data import FORMAT

    n, rng = 5000, np.random.default_rng(0)
    labels = np.arange(n) // 10
    near = rng.integers(n, size=(n, K))
    picture = "data:image/webp;base64," + "A" * 1300
    data = {
        "format": FORMAT,
        "about": {
            "title": "many",
            "run": "",
            "data": "",
            "facts": [],
            "recall": 0.5,
            "interval": [],
            "images": 6000,
            "queries": 6000,
            "answerable": 6000,
            "classes": 600,
        },
        "asked": [[10, 5.0]] * 500,
        "pairs": [[1, 2, 5]],
        "pairs_in_all": 1,
        "classes": [f"class {i}" for i in range(500)],
        "names": [f"{i}.png" for i in range(n)],
        "labels": labels.tolist(),
        "thumbs": list(range(n)),
        "pictures": [f"{picture}{i:04d}" for i in range(n)],
        "queries": list(range(n)),
        "neighbors": near.tolist(),
        "similarities": np.full((n, K), 0.5).tolist(),
        "hits": (labels[near[:, 0]] == labels).astype(float).tolist(),
        "ranks": [1] * n,
        "typical": [[10 * i] for i in range(500)],
        "map": {
            "images": list(range(n)),
            "x": rng.integers(10000, size=n).tolist(),
            "y": rng.integers(10000, size=n).tolist(),
        },
    }
    write_explorer(tmp_path / "explorer.html", data, {"title": "many", "subtitle": []})
    start = time.monotonic()
    page = Page(chromium).open(tmp_path / "explorer.html")
    opened = time.monotonic() - start
    assert "5,000 of 6,000 queries (500 of 600 classes" in page.one("#facts").text
    assert len(page.all("#list .cell")) < 150  # only those in sight exist
    start = time.monotonic()
    page.press("/")
    page.press("class 499")
    assert page.listed == 10 + 5  # that class, and 499.png, 1499.png, ...
    filtered = time.monotonic() - start
    print(f"opened in {opened:.2f} s, filtered by nine keystrokes in {filtered:.2f} s")
    assert opened < 5
    assert filtered < 3
