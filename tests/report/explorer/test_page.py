"""The explorer page in a real browser: queries, filters and tables, by mouse and by keyboard."""

from __future__ import annotations

from urllib.parse import quote

import numpy as np
import pytest
from explorer_page import nearest, wrong
from pages import NASTY


def test_a_query_shows_its_neighbors(page, made):
    _, similarity, _, labels = made
    for query in (0, 1, 7):
        while page.query != query:
            page.press("j")
        assert page.neighbors == nearest(similarity, query)
        tiles = page.all(".strip.own .tile")
        right = ["right" in tile.get_attribute("class").split() for tile in tiles]
        assert right == [labels[i] == labels[query] for i in page.neighbors]
        shown = [float(tile.find_element("css selector", ".similarity").text) for tile in tiles]
        assert shown == pytest.approx([similarity[query][i] for i in page.neighbors], abs=1e-3)
        # The shape says it too.
        marks = [t.find_element("css selector", ".mark path").get_attribute("d") for t in tiles]
        assert len(set(marks)) == len(set(right))


def test_the_first_right_ones_rank(page, made):
    _, similarity, _, labels = made
    for query in sorted(wrong(similarity, labels))[:4]:
        mine = [i for i in range(60) if labels[i] == labels[query] and i != query]
        best = max(similarity[query][i] for i in mine)
        rank = 1 + sum(similarity[query][i] > best for i in range(60) if i != query)
        page.js("location.hash = new URLSearchParams({q: arguments[0]})", f"{NASTY}/{query}.png")
        page.wait(lambda query=query: page.query == query)
        assert page.one("#verdict").text == f"Wrong: the first right one has rank {rank}."


def test_clicking_a_neighbor_and_going_back(page):
    first, neighbors = page.query, page.neighbors
    page.click(".strip.own li:nth-child(3) .tile")
    assert page.query == neighbors[2]
    page.press("1")
    assert page.query != neighbors[2]
    page.driver.back()
    page.wait(lambda: page.query == neighbors[2])
    page.driver.back()
    page.wait(lambda: page.query == first)


def test_back_leads_to_where_one_was_not_to_where_the_address_was(page):
    page.press("j", "j")
    there, neighbors = page.query, page.neighbors
    page.press("1")
    assert page.query == neighbors[0]
    page.driver.back()
    page.wait(lambda: page.query == there)


def test_keys_of_the_list_where_the_shown_image_is_not_in_it(page):
    from selenium.webdriver.common.keys import Keys

    for key, place in ((Keys.HOME, 1), (Keys.END, 11)):
        page.press("x", "/", "/1")  # 1.png and 10.png to 19.png
        assert page.listed == 11
        page.js("document.activeElement.blur()")
        # A neighbor that the filter leaves out takes the middle.
        outside = next(at for at, i in enumerate(page.neighbors, 1) if i != 1 and i // 10 != 1)
        page.click(f".strip.own li:nth-child({outside}) .tile")
        assert page.one("#count").text.startswith("11 ")
        page.one("#list").send_keys(key)
        assert page.one("#count").text.startswith(f"{place} of 11")


def test_a_link_without_a_query_shows_the_first_of_its_list(page, made):
    labels = made[3]
    page.open(made[0] / "here" / "explorer.html", f"#class={quote(f'{NASTY} 003')}")
    assert page.query == int(np.flatnonzero(labels == 3)[0])
    assert page.one("#count").text == "1 of 10 (60 in all)"


def test_the_keyboard_stays_where_it_was(page):
    from selenium.webdriver.common.keys import Keys

    active = "return document.activeElement.dataset[arguments[0]]"
    page.js("document.querySelector('.strip.own [data-place=\"2\"]').focus()")
    neighbors = page.neighbors
    page.press(Keys.ENTER)
    assert page.query == neighbors[1]
    assert page.js(active, "place") == "2"
    page.js("document.querySelector('[data-outcome=wrong]').focus()")
    page.press(Keys.ENTER)
    assert page.js(active, "outcome") == "wrong"
    assert page.js("return document.querySelector('#spoken').textContent").count(". ") >= 1


def test_a_link_leads_to_the_same_view(page, made):
    page.click(".strip.own li:nth-child(2) .tile")
    page.press("f", "l")
    page.wait(lambda: "show=wrong" in page.driver.current_url and "tab=" in page.driver.current_url)
    fragment = "#" + page.driver.current_url.split("#")[1]
    query = page.query
    page.open(made[0] / "here" / "explorer.html", fragment)
    assert page.query == query
    assert page.one("#panel-classes").is_displayed()
    assert page.one("[data-outcome=wrong]").get_attribute("aria-pressed") == "true"


def test_steps_by_keys_and_mouse_stay_within_the_list(page):
    from selenium.webdriver.common.keys import Keys

    first = page.query
    page.press("k")
    assert page.query == first
    page.press("j", Keys.ARROW_RIGHT, "j")
    assert page.one("#count").text == "4 of 60"
    page.press(Keys.ARROW_LEFT, "k")
    page.click("#next")
    page.click("#previous")
    assert page.one("#count").text == "2 of 60"
    page.click("#list [data-row='7']")
    assert page.one("#count").text == "8 of 60"
    page.one("#list").send_keys(Keys.END)
    assert page.one("#count").text == "60 of 60"
    assert page.one("#selected-cell").is_displayed()
    page.press("r")
    assert page.listed == 60


def test_filters_combine(page, made):
    _, similarity, _, labels = made
    failing = wrong(similarity, labels)
    page.press("f")
    assert page.listed == len(failing) > 0
    assert page.query in failing
    label = labels[min(failing)]
    name = f"{NASTY} {label:03d}"
    from selenium.webdriver.support.ui import Select

    Select(page.one("#class")).select_by_visible_text(name)
    both = {i for i in failing if labels[i] == label}
    assert page.listed == len(both)
    assert page.query in both
    page.driver.switch_to.active_element.send_keys("\ue00c")  # Escape: leave the field
    page.press("f")
    assert page.listed == 10
    page.press("x")
    assert page.listed == 60
    page.press("/")
    page.press("/17.PNG")
    assert (page.listed, page.query) == (1, 17)
    page.press("zzz")
    assert page.listed == 0


def test_a_confused_pair_leads_to_its_queries(page, made):
    _, similarity, _, labels = made
    pairs = [(labels[i], labels[nearest(similarity, i)[0]]) for i in wrong(similarity, labels)]
    page.press("p")
    rows = page.all("#confusions tbody tr")
    counts = [int(row.find_elements("css selector", ".number")[0].text) for row in rows]
    assert counts == sorted((pairs.count(p) for p in set(pairs)), reverse=True)
    share = rows[0].find_elements("css selector", ".number")[1].text
    assert share == f"{10 * counts[0]:.1f} %"  # ten queries a class
    names = [face.text for face in rows[0].find_elements("css selector", ".face")]
    rows[0].find_element("css selector", "button").click()
    assert page.listed == counts[0]
    of, as_ = (int(name.split()[-1]) for name in names)
    assert (labels[page.query], labels[page.neighbors[0]]) == (of, as_)
    assert pairs.count((of, as_)) == counts[0]
    shown = page.all(".pair-shown figure")
    assert [figure.find_element("css selector", "figcaption").text for figure in shown] == names
    assert all(len(figure.find_elements("css selector", "img")) == 5 for figure in shown)


def test_recall_by_class_sorts_and_filters(page, made):
    _, similarity, _, labels = made
    failing = wrong(similarity, labels)
    page.press("l")

    def recalls():
        rows = page.all("#classes tbody tr")
        cells = [row.find_elements("css selector", "td") for row in rows]
        return [(name.text, float(recall.text[:-2])) for name, _, recall, _ in cells]

    expected = {
        f"{NASTY} {c:03d}": 100 * np.mean([i not in failing for i in np.flatnonzero(labels == c)])
        for c in range(6)
    }
    shown = recalls()
    assert dict(shown) == pytest.approx(expected)
    assert [recall for _, recall in shown] == sorted(expected.values())
    page.click("[data-sort=recall]")
    assert [recall for _, recall in recalls()] == sorted(expected.values(), reverse=True)
    page.click("[data-sort=name]")
    assert [name for name, _ in recalls()] == sorted(expected)
    page.all("#classes tbody tr button")[2].click()
    assert page.listed == 10
    assert labels[page.query] == 2


def test_hostile_names_are_text(page):
    assert f"Report {NASTY}" in page.one("h1").text
    assert page.one(".said h2").text.startswith(NASTY)
    for key in "plt":
        page.press(key)
    names = page.all("#confusions b, #classes b, .strip b, #class b, .said b")
    assert names == []


def test_the_keys_are_listed(page):
    page.press("?")
    assert page.one("#help").is_displayed()
    assert "a random query" in page.one("#help").text
    page.press("j")
    assert page.one("#count").text == "1 of 60"  # keys wait while it is open
    page.press("\ue00c")
    assert not page.one("#help").is_displayed()
