"""What preprocess counted: `manifest.json`, read by training, tracking and the report.

dataset, digest          the digest is a SHA-256 over the shards' names and checksums
classes, images          classes that kept an image; images kept
splits                   {"train" | "val" | "test": {"classes", "images", "singletons"}}; with
                         "queries", "gallery" where the test queries search a gallery
class_names              sorted; a shard's labels index this list
singletons               classes with one image: gallery only, never an anchor
refused                  [{"name", "class_name", "why"}]; why is "kind" or "kind: detail"
refused_by_reason        {kind: count}
converted, resized       {"RGBA -> RGB": count, ...}; images shrunk
odd                      [{"name", "class_name", "what"}] of images kept all the same; what is
                         "kind: detail": "animated" or "several pages", of which the first was
                         taken, or "wrongly named", of another format than the name says
odd_by_kind              {kind: count}
duplicates_within_class  images that are exact copies of an earlier one of their class
copies_across_classes    images kept although an exact copy stands in another class
notes                    of the fetch stage
warnings                 sentences a person should read
shards                   [{"file", "rows", "sha256"}] in order
settings                 the parameters that shaped the shards

For people and their spreadsheets, refused.csv beside it has what was refused, and kept.csv what is
odd or alone in its class.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rhs.data.splits import RETRIEVAL, SPLITS
from rhs.errors import UserError
from rhs.preprocessing.image_counts import ImageCounts

NAMED = 8  # refused images in a message


def kind_of(why: str) -> str:
    """The kind of a refusal or an oddity: "truncated" of "truncated: 12 bytes missing"."""
    return why.partition(":")[0]


def check_refused(
    refused: list[dict[str, str]], total: int, max_bad_fraction: float, listed: Path
) -> None:
    """Raise a UserError where more than `max_bad_fraction` of `total` images were refused.

    It names some, and `listed`, the file that has all of them.
    """
    if len(refused) <= max_bad_fraction * total:
        return
    first = ", ".join(f"{r['name']} ({r['why']})" for r in refused[:NAMED])
    raise UserError(
        f"{len(refused)} of {total} images were refused ({len(refused) / total:.1%}), first "
        f"{first}; all are in {listed}: mend them, or accept it with preprocess.max_bad_fraction "
        f"above the present {max_bad_fraction}."
    )


def build_manifest(
    description: dict[str, Any],
    class_names: list[str],
    split_of: dict[str, str],
    images: ImageCounts,
    shards: list[dict[str, Any]],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """The manifest's content.

    Args:
        description: of the raw folder, see `rhs.datasets.raw_folder`.
        split_of: class name -> split; absent classes were left out.
        shards: see above, in order.

    Raises:
        UserError: fewer than two train or two test classes kept an image, or all that kept any in
            a split kept one; or one validation class is left.
    """
    sizes = Counter(class_name for class_name, _ in images.kept)
    listed = "".join(f"{shard['file']} {shard['sha256']}\n" for shard in shards)
    manifest = {
        "dataset": description["dataset"],
        "digest": hashlib.sha256(listed.encode()).hexdigest(),
        "classes": len(sizes),
        "images": len(images.kept),
        "splits": _count_splits(split_of, sizes, images),
        "class_names": class_names,
        "singletons": sorted(name for name, n in sizes.items() if n == 1),
        "refused": images.refused,
        "refused_by_reason": _count_kinds(entry["why"] for entry in images.refused),
        "converted": dict(sorted(images.converted.items())),
        "resized": images.resized,
        "odd": images.odd,
        "odd_by_kind": _count_kinds(entry["what"] for entry in images.odd),
        "duplicates_within_class": len(images.kept) - len(set(images.kept)),
        "copies_across_classes": images.ambiguous,
        "notes": description["notes"],
        "warnings": [],
        "shards": shards,
        "settings": settings,
    }
    emptied, left_out = set(split_of) - set(sizes), set(class_names) - set(split_of)
    manifest["warnings"] = _warnings(manifest, images, sorted(emptied), sorted(left_out))
    return manifest


def _count_kinds(reasons: Iterable[str]) -> dict[str, int]:
    """How often each kind of reason occurs, by name."""
    return dict(sorted(Counter(map(kind_of, reasons)).items()))


def _count_splits(
    split_of: dict[str, str], sizes: Counter[str], images: ImageCounts
) -> dict[str, dict[str, int]]:
    refused = len(images.refused)
    splits = {split: _split_counts(split, split_of, sizes) for split in SPLITS}
    for split in ("train", "test"):
        if splits[split]["classes"] < 2:
            raise UserError(
                f"only {splits[split]['classes']} {split} classes have images left after "
                f"{refused} were refused; at least 2 are needed."
            )
    if splits["val"]["classes"] == 1:
        raise UserError(
            f"only 1 val class has images left after {refused} were refused, and among images of "
            "one class every answer is right; at least 2 are needed, or none "
            "(dataset.validation=0)."
        )
    for split, counts in splits.items():
        if 0 < counts["classes"] == counts["singletons"]:
            raise UserError(
                f"each of the {counts['classes']} {split} classes has one image, so no image has "
                "another one to be found; two images are needed in one of them at least"
                + (", or dataset.validation=0." if split == "val" else ".")
            )
    queries, gallery = (images.sides[side] for side in RETRIEVAL)
    if queries or gallery:
        if not set(queries) & set(gallery):
            raise UserError(
                f"None of the {len(queries)} classes of the queries has an image in the gallery, "
                f"which is of {len(gallery)} classes; one at least is needed."
            )
        splits["test"] |= {"queries": queries.total(), "gallery": gallery.total()}
    return splits


def _split_counts(split: str, split_of: dict[str, str], sizes: Counter[str]) -> dict[str, int]:
    here = [sizes[name] for name, s in split_of.items() if s == split and sizes[name]]
    return {"classes": len(here), "images": sum(here), "singletons": here.count(1)}


def _warnings(
    manifest: dict[str, Any], images: ImageCounts, emptied: list[str], left_out: list[str]
) -> list[str]:
    warnings = [images.chosen] if images.chosen else []
    if emptied:
        warnings.append(f"Every image was refused of {_listed(emptied, 'class', 'classes')}.")
    if left_out:
        warnings.append(
            "Neither dataset.train_classes nor dataset.test_classes takes "
            f"{_listed(left_out, 'class', 'classes')}."
        )
    if not manifest["splits"]["val"]["classes"]:
        warnings.append(
            "No validation classes: there is nothing to compare settings on but the test classes, "
            "and settings chosen on those flatter themselves."
        )
    if singles := manifest["singletons"]:
        warnings.append(
            f"{_listed(singles, 'class has', 'classes have')}: one image only, kept in the "
            "gallery, never an anchor or a query; all are in kept.csv."
        )
    if unanswerable := sorted(set(images.sides["query"]) - set(images.sides["gallery"])):
        warnings.append(
            f"{_listed(unanswerable, 'class has', 'classes have')}: queries, but no image in the "
            "gallery; these queries are left out."
        )
    if ambiguous := manifest["copies_across_classes"]:
        warnings.append(
            f"Exact copies of an image of another class: {ambiguous}; kept, as the benchmark has "
            "them, though no label of them is right."
        )
    if manifest["refused"]:
        reasons = ", ".join(f"{n} {kind}" for kind, n in manifest["refused_by_reason"].items())
        warnings.append(f"Refused images: {reasons}; all are in refused.csv.")
    if manifest["odd"]:
        kinds = ", ".join(f"{n} {kind}" for kind, n in manifest["odd_by_kind"].items())
        warnings.append(f"Odd images, kept: {kinds}; all are in kept.csv.")
    if copies := manifest["duplicates_within_class"]:
        warnings.append(
            f"Exact copies of another image of their class: {copies}; each is a right answer that "
            "Recall@K gets for free."
        )
    return warnings


def _listed(names: list[str], one: str, many: str, most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} {one if len(names) == 1 else many} ({', '.join(names[:most])}{more})"
