"""The page that shows a data set before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from markupsafe import Markup

from rhs.data.shards import load_manifest
from rhs.report.dataset.duplicate_groups import (
    GROUPS_SHOWN,
    MEMBERS_SHOWN,
    TITLES,
    Shown,
    groups_of,
    occurrence,
    show_kind,
    write_csv,
)
from rhs.report.dataset.duplicates import (
    KEYS,
    KINDS,
    Copies,
    find_copies,
    queries_with_answers,
)
from rhs.report.dataset.fingerprints import SPLITS, Fingerprints, read_fingerprints
from rhs.report.dataset.near_copies import MORE_NEIGHBORS, NEIGHBORS
from rhs.report.run.tables import Figure, data_facts, named_images, percent
from rhs.report.svg_plots import histogram
from rhs.report.templating import render

SHEET_IMAGES = 60
SHEETS = TITLES | {"query": "Queries"}


def build_data_report(*, out: Path, shards: Path, seed: int, mirrored: bool) -> dict[str, int]:
    """Write ``index.html`` and ``duplicates.csv`` into the folder `out`, which is made if absent.

    They are a pure function of the shards, the seed and `mirrored`: no date, no host name.

    Args:
        shards: a shards folder with its manifest.
        seed: draws the contact sheets.
        mirrored: whether mirror images count as copies, see `find_copies`.

    Returns:
        kind of copies (a key of `rhs.report.dataset.duplicates.KINDS`) -> images that have such a
        copy.

    Raises:
        UserError: no manifest there.
    """
    manifest = load_manifest(shards)
    images = read_fingerprints(shards, manifest)
    copies = find_copies(images, mirrored)
    sheets = {split: _sheet(images, s, seed) for s, split in enumerate(SPLITS)}
    sheets = {split: chosen for split, chosen in sheets.items() if len(chosen)}
    groups = [groups_of(k, copies, images) for k in range(len(KINDS))]
    extremes = _extremes(images)
    wanted = [i for chosen in sheets.values() for i in chosen] + [i for _, i, _ in extremes]
    wanted += [int(i) for kind in groups for g in kind[:GROUPS_SHOWN] for i in g[:MEMBERS_SHOWN]]
    pictures = images.pictures(wanted)
    kinds = [show_kind(k, groups[k], copies, images, pictures) for k in range(len(KINDS))]
    ratios = images.size_N2[wanted, 0] / images.size_N2[wanted, 1]
    values = {
        "title": f"{manifest['dataset']}: the data",
        "subtitle": [("data set", manifest["dataset"]), ("data digest", manifest["digest"][:12])],
        "tile_ratio": round(float(np.clip(np.median(ratios), 0.75, 1.5)), 3),
        "headline": _headline(manifest, images, copies),
        "manifest": manifest,
        "facts": data_facts(manifest),
        "sheets": [
            (split, SHEETS[split], [Shown(pictures[i]) for i in chosen])
            for split, chosen in sheets.items()
        ],
        "histograms": _histograms(images),
        "extremes": [Shown(pictures[i], title, note) for title, i, note in extremes],
        "kinds": [shown for shown in kinds if shown.groups],
        "absent": [shown.kind.title for shown in kinds if not shown.groups],
        "mirrored": mirrored,
        "most_compared": NEIGHBORS,
        "more_compared": MORE_NEIGHBORS,
        **named_images(manifest),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text(render("data.html", **values), encoding="utf-8")
    write_csv(out / "duplicates.csv", images, copies)
    return {s.kind.key: s.exact_images + s.near_images for s in kinds}


def _headline(manifest: Mapping, images: Fingerprints, copies: Copies) -> list[Figure]:
    asked_N = queries_with_answers(images)
    exact_N = asked_N & copies.exact_NK[:, KEYS.index("free")]
    either_N = exact_N | asked_N & copies.near_NK[:, KEYS.index("free")]
    seen = int(
        (copies.exact_NK | copies.near_NK)[
            images.split_N >= SPLITS.index("test"), KEYS.index("leak")
        ].sum()
    )
    refused = len(manifest.get("refused", []))
    figures = [
        Figure("Images", f"{len(images):,}", f"{manifest['classes']:,} classes"),
        Figure("Refused", f"{refused:,}", "named at the end of this page" if refused else ""),
    ]
    if asked_N.any():
        share = percent(either_N.sum() / asked_N.sum())
        note = (
            f"{either_N.sum():,} of {asked_N.sum():,} queries have a copy, {exact_N.sum():,} exact"
        )
        figures.append(Figure("Recall@1 for free, found", share, note))
    return [
        *figures,
        Figure("Test images seen in training", f"{seen:,}", "copies under another class"),
    ]


def _sheet(images: Fingerprints, split: int, seed: int) -> list[int]:
    """Seeded images of a split, each of another class until all have had their turn, by class."""
    rng = np.random.default_rng([seed, split])
    drawn = rng.permutation(np.flatnonzero(images.split_N == split))
    chosen = drawn[np.argsort(occurrence(images.label_N[drawn]), kind="stable")][:SHEET_IMAGES]
    return [int(i) for i in np.sort(chosen)]


def _histograms(images: Fingerprints) -> list[tuple[str, str, Markup]]:
    """(title, note, figure): class sizes of each split, and shapes of all images."""
    figures = []
    for group, splits in (
        ("train", ("train",)),
        ("val", ("val",)),
        ("test", ("test", "query", "gallery")),
    ):
        inside_N = np.isin(images.split_N, [SPLITS.index(split) for split in splits])
        sizes = np.unique(images.label_N[inside_N], return_counts=True)[1]
        if len(sizes):
            note = f"{len(sizes):,} classes of {sizes.min():,} to {sizes.max():,} images"
            title = f"{TITLES[group]}: class sizes"
            figure = histogram(
                f"classes-{group}",
                sizes,
                alt=f"{title}, {note}",
                what="images of a class",
                counted="classes",
            )
            figures.append((title, note, figure))
    short_N, ratio_N = images.size_N2.min(axis=1), images.size_N2[:, 0] / images.size_N2[:, 1]
    note = f"{short_N.min():,} to {short_N.max():,} pixels, as stored"
    figure = histogram(
        "short-side", short_N, alt=f"shorter sides, {note}", what="pixels", counted="images"
    )
    figures.append(("Shorter side", note, figure))
    note = f"{ratio_N.min():.2f} to {ratio_N.max():.2f}"
    figure = histogram(
        "ratio",
        ratio_N,
        alt=f"width over height, {note}",
        logarithmic=True,
        what="below 1: upright",
        counted="images",
    )
    return [*figures, ("Width over height", note, figure)]


def _extremes(images: Fingerprints) -> list[tuple[str, int, str]]:
    """(what, image, its measure): the first of several that tie; nothing where all are alike."""
    _, first, count = np.unique(images.label_N, return_index=True, return_counts=True)
    area_N = images.size_N2.prod(axis=1)
    longer_N = images.size_N2.max(axis=1) / images.size_N2.min(axis=1)
    rows = []
    if count.min() < count.max():
        of_class = [("Smallest class", count.argmin()), ("Largest class", count.argmax())]
        rows += [(what, int(first[c]), f"images: {count[c]:,}") for what, c in of_class]
    of_image = []
    if area_N.min() < area_N.max():
        of_image += [("Smallest image", area_N.argmin()), ("Largest image", area_N.argmax())]
    if longer_N.min() < longer_N.max():
        of_image.append(("Most elongated", longer_N.argmax()))
    for what, i in of_image:
        width, height = images.size_N2[i]
        rows.append((what, int(i), f"{width:,} × {height:,} pixels"))
    return rows
