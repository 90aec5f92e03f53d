"""The zero-shot split: train, validation and test share no class."""

import difflib
import os
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rhs.config.yaml_file import read_text
from rhs.errors import UserError
from rhs.paths import locate

SPLITS = ("train", "val", "test")
RETRIEVAL = ("query", "gallery")  # the two sides of a test split that is not searched in itself
IGNORED = (
    "; of a table, dataset.fetch.split=null in the fetch stage ignores the column, of a folder, "
    "dataset.fetch.split_folders=merge the split folders"
)
Classes = str | Sequence[str] | None


def split_classes(
    class_names: Sequence[str],
    train_classes: Classes = None,
    test_classes: Classes = None,
    validation: float = 0.1,
    official: dict[str, str] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, str]:
    """Class name -> "train", "val" or "test"; a class that no split wants is absent.

    Args:
        class_names: every class of the data set.
        train_classes: None, a list of names, the path of a text file with one name a line, or a
            regular expression that matches whole names. If both this and `test_classes` are None,
            the first half of the sorted names (rounded down) trains and the rest tests; if one is
            None, it is what the other leaves.
        test_classes: likewise.
        validation: fraction of the train classes that is held out to compare settings on, evenly
            spaced over their sorted names. Two at least, or none if so few cannot spare two.
        official: class name -> split, as the data set has it (see `official_split`). It holds
            unless `train_classes` or `test_classes` is given, and its "val", if it has one, takes
            the place of `validation`.
        sizes: class name -> images. Where the classes chosen by name to test or to validate on,
            or those left to train on, have one image each, others are chosen, if there are any.

    Raises:
        UserError: unknown names, a class in both, fewer than two to train or test on, ...
    """
    check_validation(validation)
    names = sorted(set(class_names))
    val: list[str] = []
    as_given = official is not None and (train_classes, test_classes) == (None, None)
    if official is not None and as_given:
        train_classes, test_classes, val = (
            [name for name in names if official[name] == s] for s in ("train", "test", "val")
        )
    train = _resolve(names, train_classes, "train_classes")
    test = _resolve(names, test_classes, "test_classes")
    if train is None:
        train = _first_half(names, sizes) if test is None else sorted(set(names) - set(test))
    test = sorted(set(names) - set(train)) if test is None else test
    _check_split(train, val, test, as_given)
    held_out = set(val or _evenly(train, validation, sizes))
    split = {name: "val" if name in held_out else "train" for name in {*train, *val}}
    return dict(sorted((split | dict.fromkeys(test, "test")).items()))


def _check_split(train: list[str], val: list[str], test: list[str], as_given: bool) -> None:
    """Raises UserError unless train and test have two classes at least, and share none."""
    if both := sorted(set(train) & set(test)):
        raise UserError(
            f"dataset.train_classes and dataset.test_classes share {_some(both)}: "
            "zero-shot retrieval is measured on classes that were never trained on."
        )
    for which, chosen in (("train", train), ("test", test)):
        if len(chosen) < 2:
            raise UserError(_too_few(which, len(chosen), as_given))
    if len(val) == 1:
        raise UserError(_too_few("val", 1, as_given))


def official_split(class_N: Sequence[str], split_N: Sequence[str]) -> dict[str, str] | None:
    """Class name -> "train", "val" or "test", from the images'; None if they have no split.

    Raises:
        UserError: a class in more than one of the three, a query or a gallery without the other.
    """
    if not any(split_N):
        return None
    if len(both := set(split_N) & set(RETRIEVAL)) == 1 or (both and "test" in split_N):
        raise UserError(
            f"The data set has images of the splits {', '.join(sorted(set(split_N)))}: what is "
            f"tested on is either test, or query and gallery{IGNORED}."
        )
    splits: dict[str, str] = {}
    for name, split in zip(class_N, split_N, strict=True):
        side = "test" if split in RETRIEVAL else split
        if splits.setdefault(name, side) != side:
            raise UserError(
                f"Class {name} has images in {splits[name]} and in {side}: zero-shot retrieval is "
                f"measured on classes that were never trained on{IGNORED}."
            )
    return splits


def check_validation(validation: Any) -> None:
    """Raises UserError unless it is a fraction below 1."""
    real = isinstance(validation, (int, float)) and not isinstance(validation, bool)
    if not (real and 0 <= validation < 1):
        raise UserError(f"dataset.validation is {validation!r}; accepted: 0 (none) to below 1.")


def _too_few(which: str, count: int, as_given: bool) -> str:
    if as_given:
        have = "1 class" if count == 1 else f"{count} classes"
        return f"The images' own splits have {have} of {which}; at least 2 are needed{IGNORED}."
    return f"dataset.{which}_classes leaves {count} classes to {which} on; at least 2 are needed."


def _resolve(names: list[str], wanted: Classes, parameter: str) -> list[str] | None:
    if wanted is None:
        return None
    if isinstance(wanted, str):
        if os.path.isfile(file := locate(wanted)):
            return _listed(names, file, parameter)
        return _matching(names, wanted, parameter)
    if not isinstance(wanted, Sequence):
        raise UserError(
            f"dataset.{parameter} is {wanted!r}; accepted: null, a list of names, a text file or a "
            "regular expression."
        )
    return _known(names, [str(name) for name in wanted], parameter)


def _listed(names: list[str], file: Path, parameter: str) -> list[str]:
    """The classes of a text file, one a line; a line that begins with # and is no class is none."""
    try:
        lines = [line.strip() for line in re.split(r"\r\n|\n|\r", read_text(file))]
    except UserError as error:
        raise UserError(f"dataset.{parameter}: {error}") from None
    classes = set(names)
    lines = [line for line in lines if line and (line[0] != "#" or line in classes)]
    if not lines:
        raise UserError(f"dataset.{parameter}: {file} names no class; one a line is needed.")
    return _known(names, lines, f"{parameter} {file}")


def _known(names: list[str], wanted: list[str], parameter: str) -> list[str]:
    wanted = [unicodedata.normalize("NFC", name) for name in wanted]  # as class names are
    if unknown := sorted(set(wanted) - set(names)):
        near = difflib.get_close_matches(unknown[0], names, n=1)
        hint = f"; the nearest to {unknown[0]} is {near[0]}" if near else ""
        raise UserError(
            f"dataset.{parameter} names {_some(unknown)}, not among the {len(names)} classes "
            f"of this data set ({_some(names)}){hint}."
        )
    return sorted(set(wanted))


def _matching(names: list[str], expression: str, parameter: str) -> list[str]:
    try:
        pattern = re.compile(unicodedata.normalize("NFC", expression))
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(
            f"dataset.{parameter} {expression!r} is neither a file nor a regular expression "
            f"({error})."
        ) from None
    matching = [name for name in names if pattern.fullmatch(name)]
    if not matching:
        raise UserError(
            f"dataset.{parameter} {expression!r} is no file, and as a regular expression "
            f"it matches none of the {len(names)} class names ({_some(names)})."
        )
    return matching


def _first_half(names: list[str], sizes: Mapping[str, int] | None) -> list[str]:
    half = names[: len(names) // 2]
    if sizes is None or _all_have_pairs(sizes, half, names[len(half) :]):
        return half
    pairs, single = _by_pairs(names, sizes)
    some = pairs[: len(pairs) // 2]
    return sorted(some + single[: len(half) - len(some)])


def _evenly(train: list[str], validation: float, sizes: Mapping[str, int] | None) -> list[str]:
    count = round(len(train) * validation)
    if count == 1:
        # Among images of one class every answer is right.
        count = 2 if len(train) >= 4 else 0
    if len(train) - count < 2:
        raise UserError(
            f"dataset.validation {validation} holds out {count} of {len(train)} train classes; "
            f"at least 2 must remain, so at most {(len(train) - 2) / len(train):.2f} fits."
        )
    chosen = _spread(train, count)
    if not chosen or sizes is None:
        return chosen
    if _all_have_pairs(sizes, chosen, set(train) - set(chosen)):
        return chosen
    pairs, single = _by_pairs(train, sizes)
    most = min(count, len(pairs) - 1)
    if most < 1 or count - most > len(single):
        return chosen  # whatever is chosen, one of the two has no pair
    return _spread(pairs, most) + _spread(single, count - most)


def _spread(names: list[str], count: int) -> list[str]:
    return [names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)]


def _all_have_pairs(sizes: Mapping[str, int], *groups: Collection[str]) -> bool:
    """Whether each of the groups has a class of two images or more."""
    return all(any(sizes.get(name, 0) > 1 for name in group) for group in groups)


def _by_pairs(names: list[str], sizes: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """The classes of two images or more, and the others."""
    return (
        [name for name in names if sizes.get(name, 0) > 1],
        [name for name in names if sizes.get(name, 0) < 2],
    )


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
