"""A real browser, driven by Selenium; nothing is fetched for it, and it sees no network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver",)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def missing() -> str:
    """Why no browser can be driven here; "" if one can."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    absent = [names[0] for names in (BROWSERS, DRIVERS) if not found(names)]
    return f"there is no {' and no '.join(absent)}" if absent else ""


def found(names: tuple[str, ...]) -> str | None:
    """Where the first of these commands is."""
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def browser(profile: Path, size: tuple[int, int] = (1400, 900)) -> Iterator[Any]:
    """A Chromium with a fresh profile in this folder, closed at the end.

    It logs what a page's console says, for `complaints`.
    """
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = found(BROWSERS) or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(executable_path=found(DRIVERS)))
    try:
        yield driver
    finally:
        driver.quit()


def complaints(driver: Any) -> list[str]:
    """Errors and warnings of the page's console since they were last asked for."""
    entries = driver.get_log("browser")
    return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
