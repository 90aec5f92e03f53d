"""The report's pages from small made-up data, read back with an HTML parser."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from rhs.report.run.page import Results, build_report

NASTY = "<b>&\"'</b>"


class FakeImages:
    """Flat color pictures; class names that would break a page that forgot to escape them."""

    def __init__(self, labels, size=(40, 30), queries: np.ndarray | None = None) -> None:
        self.labels = labels
        self.class_names = [f"{NASTY} {i:03d}" for i in range(int(labels.max(initial=0)) + 1)]
        self.names = [f"{NASTY}/{i}.png" for i in range(len(labels))]
        self.size, self.queries = size, queries

    def bytes(self, i: int) -> bytes:
        color = tuple(int(c) for c in np.random.default_rng(i).integers(256, size=3))
        buffer = io.BytesIO()
        Image.new("RGB", self.size, color).save(buffer, "PNG")
        return buffer.getvalue()


class Tags(HTMLParser):
    """All (tag, attributes) of a page, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def classed(self, word: str) -> list[dict]:
        return [a for _, a in self.tags if word in (a.get("class") or "").split()]


def clusters(n: int, classes: int, noise: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    embeddings = rng.normal(size=(classes, 8))[labels] + noise * rng.normal(size=(n, 8))
    return embeddings.astype(np.float32), labels


def write(
    out: Path, embeddings: np.ndarray, labels: np.ndarray, settings: dict | None = None, **changed
) -> tuple[Tags, Tags]:
    """The index and the failures, read back; `settings` of build_report, `changed` results."""
    manifest = {
        "dataset": "made-up",
        "digest": "0123456789abcdef",
        "classes": 10,
        "images": 1234,
        "splits": {
            "train": {"classes": 5, "images": 600, "singletons": 0},
            "val": {"classes": 0, "images": 0, "singletons": 0},
            "test": {"classes": 5, "images": 634, "singletons": 1},
        },
        "singletons": ["one"],
        "refused": [{"name": f"{NASTY}{i}", "class_name": "c", "why": "cut"} for i in range(53)],
        "odd": [
            {"name": f"odd{NASTY}{i}", "class_name": "c", "what": "first frame"} for i in range(51)
        ],
        "converted": {"RGBA -> RGB": 7},
        "resized": 0,
        "duplicates_within_class": 2,
        "notes": {"faces": ["DejaVu", "STIX"]},
        "warnings": [f"Mind {NASTY}."],
    }
    arguments = {
        "title": f"Report {NASTY}",
        "params": {"seed": 3, "model": {"name": "convnet", "widths": [8, 16]}, "method": NASTY},
        "manifest": manifest,
        "history": [
            {"epoch": "0", "step": "9", "loss": "2.5", "lr": "", "val_recall@1": "0.25"},
            {"epoch": "1", "step": "18", "loss": "1.5", "lr": "", "val_recall@1": "0.75"},
        ],
        "metrics": {
            "val": {"recall@1": 0.5, "recall@10": 1},
            "untrained": {"recall@1": 0.125, "queries": 60, "left_out": 0},
            "test": {"recall@1": 0.625, "recall@2": 0.875, "queries": 60, "left_out": 0},
        },
        "shards": {"test": FakeImages(labels)},
        "splits": {"test": (embeddings, labels)},
        "seed": 3,
    }
    build_report(out, Results(**(arguments | changed)), **(settings or {}))
    return tuple(
        Tags((out / name).read_text(encoding="utf-8")) for name in ("index.html", "failures.html")
    )
