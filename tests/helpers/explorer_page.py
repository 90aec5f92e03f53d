"""The explorer page as a user has it before them, and what it should show."""

from __future__ import annotations

import numpy as np

K = 10


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def nearest(similarity, query):
    order = np.argsort(-similarity[query])
    return [int(i) for i in order if i != query][:K]


def wrong(similarity, labels):
    return {i for i in range(len(labels)) if labels[nearest(similarity, i)[0]] != labels[i]}


class Page:
    """What a user does to the page, and what it then shows."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path, fragment=""):
        self.driver.get("about:blank")
        self.driver.get(path.as_uri() + fragment)
        assert self.js("return document.body.dataset.ready") == "yes"
        return self

    def js(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def click(self, selector):
        self.one(selector).click()

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 5, 0.02).until(lambda _: condition())

    @property
    def query(self):
        """The index among the 60 of the query that is shown."""
        return int(self.one(".said .file").text.rsplit("/")[-1][:-4])

    @property
    def neighbors(self):
        names = [t.get_attribute("title").split("\n")[1] for t in self.all(".strip.own .tile")]
        return [int(name.rsplit("/")[-1][:-4]) for name in names]

    @property
    def listed(self):
        return int(self.one("#count").text.split(" (")[0].split("of ")[-1].replace(",", ""))
