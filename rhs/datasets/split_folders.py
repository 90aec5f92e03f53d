"""Folders that are no classes but say what their images are for: train/, val/, test/ ..."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from rhs.errors import UserError

SETTING = "dataset.fetch.split_folders"
ACCEPTED = ("auto", "split", "merge", "none")
FOLD = "fold"
WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval", "train_val"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev"), "val"),
    **dict.fromkeys(
        ("test", "testing", "tst", "eval", "evaluation", "holdout", "hold_out"), "test"
    ),
    **dict.fromkeys(("query", "queries", "probe"), "query"),
    "gallery": "gallery",
}
_NAME = re.compile(
    rf"((?P<prefix>.+?)_)??(?P<word>{'|'.join(WORDS)})(_?(set|sets|images?|imgs?|data|split))?_?\d*"
)
_FOLD = re.compile(r"(k_?)?(fold|split)_?\d+")
ANYONES = frozenset({None, "bounding_box", "image", "images", "img", "imgs", "the", "my", "data"})

Parts = tuple[str, ...]


class Arranged(NamedTuple):
    """Of each image, in order."""

    classes: list[Parts | None]  # the folders that name the class; None: it has none
    splits: list[str]  # "" where none is said
    note: str  # a sentence for people; "" if there is nothing to say


class _Level(NamedTuple):
    """Where in the paths the split folders stand, and what they say."""

    at: int
    splits: dict[str, str]  # name of a folder -> split
    others: list[str]  # folders beside them that say none


def check_setting(setting: object) -> str:
    """Raises UserError unless it is one of ACCEPTED."""
    if setting in ACCEPTED:
        return str(setting)
    if setting is None:  # `none` is written without quotes, and null is near
        return "none"
    raise UserError(f"{SETTING} is {setting!r}; accepted: {', '.join(ACCEPTED)}.")


def arrange(folders: Sequence[Parts], setting: str, source: str) -> Arranged:
    """Class and split of images by the folders that they lie in.

    Args:
        folders: of each image, one at least.
        setting: "auto": split folders of different classes are the split, and those of the same
            classes are refused; "split": they are the split; "merge": they are left out of the
            classes' names, and say nothing; "none": they are classes, as any folder is.
        source: its name in messages.

    Raises:
        UserError: what the folders mean cannot be known, or not be done.
    """
    level = None if setting == "none" else _find(folders)
    if level is None:
        if setting in ("split", "merge"):
            raise UserError(
                f"{SETTING} is {setting}, but {source} has no folders train, val, test or the "
                "like in one another's company; auto fits any source."
            )
        return Arranged(list(folders), [""] * len(folders), "")
    names = _named(level.splits)
    classes = [p[: level.at] + p[level.at + 1 :] for p in folders]
    _check_level(level, classes, source)
    splits = [level.splits[p[level.at]] if len(p) > level.at else "" for p in folders]
    outside = ""
    if without := classes.count(()):
        where = sorted({p[level.at] for p, c in zip(folders, classes, strict=True) if not c})
        outside = f"{without} images lie right in {_named(where)}, in no folder of a class"
        outside += ": passed over"
    labelled = [(c, s) for c, s in zip(classes, splits, strict=True) if c]
    found = {split for _, split in labelled}
    if setting == "merge" or (len(found) == 1 and FOLD not in found):
        how = f"{names} are no part of the classes' names, and no split"
        splits = [""] * len(folders)
    else:
        shared = _shared(labelled)
        if FOLD in found or shared or "" in found:
            raise UserError(_undecided(source, names, FOLD in found, shared, setting))
        splits, how = _as_split(splits, found, names)
    note = "; ".join(filter(None, (f"{how} ({SETTING}: {', '.join(ACCEPTED)})", outside)))
    return Arranged([c or None for c in _inside(classes)], splits, note)


def _check_level(level: _Level, classes: Sequence[Parts], source: str) -> None:
    """Raises UserError unless all folders are of the split, and some hold folders of classes."""
    names = _named(level.splits)
    if level.others:
        raise UserError(
            f"{source} has the folders {names}, as of a split, and beside them "
            f"{_named(level.others)}: move those elsewhere, or say {SETTING}=none, and each of "
            "them is part of a class's name."
        )
    if not any(classes):
        raise UserError(
            f"The images of {source} lie right in {names}, in no folder of a class: make one "
            f"folder per class, list them in a table (dataset=table), or say {SETTING}=none if "
            "these are the classes."
        )


def same_names(classes: Sequence[Parts]) -> str:
    """A sentence on folders that hold folders of the same names, as 2023/cat and 2024/cat are;
    "" if there are none."""
    held: dict[Parts, set[str]] = defaultdict(set)
    for parts in set(classes):
        if len(parts) > 1:
            held[parts[:-1]].add(parts[-1])
    among: dict[str, int] = Counter(name for names in held.values() for name in names)
    shared = {name for name, times in among.items() if times > 1}
    holders = ["/".join(parts) for parts, names in held.items() if len(names & shared) > 1]
    if len(holders) < 2:
        return ""
    return (
        f"{_named(holders)} hold folders of the same names ({_named(shared)}): each of them is a "
        "class of its own"
    )


def _inside(classes: list[Parts]) -> list[Parts]:
    """The classes without a folder that is around all of them, as in train/images/cat."""
    while (tops := {parts[:1] for parts in classes if parts}) and len(tops) == 1:
        if any(len(parts) == 1 for parts in classes):
            return classes
        classes = [parts[1:] for parts in classes]
    return classes


def split_word(name: str) -> tuple[str | None, str] | None:
    """What a folder's name says of a split, and what stands before it; None if nothing."""
    plain = re.sub(r"[-_ .]+", "_", name.strip().casefold()).strip("_")
    if _FOLD.fullmatch(plain):
        return None, FOLD
    found = _NAME.fullmatch(plain)
    return (found["prefix"], WORDS[found["word"]]) if found else None


def _find(folders: Sequence[Parts]) -> _Level | None:
    """The first level of folders at which some hold two or more split folders."""
    distinct = sorted(set(folders))
    for at in range(max(len(parts) for parts in distinct)):
        children: dict[Parts, set[str]] = defaultdict(set)
        deeper = set()
        for parts in distinct:
            if len(parts) > at:
                children[parts[:at]].add(parts[at])
            if len(parts) > at + 1:
                deeper.add(parts[at])
        names = set().union(*children.values())
        found = {name: word for name in names if (word := split_word(name))}
        own = {prefix for prefix, _ in found.values()} - ANYONES
        if len(own) > 1:  # crash_test and bullet_train are things
            found = {name: word for name, word in found.items() if word[0] in ANYONES}
        splits = {name: split for name, (_, split) in found.items()}
        others = sorted(names - set(splits))
        together = any(_is_company(under, splits) for under in children.values())
        # A class that has folders of the names of classes beside it is a part kept for testing.
        inside = {p[at + 1] for p in distinct if len(p) > at + 1 and p[at] in splits}
        if not others and together:
            return _Level(at, splits, [])
        if (
            others
            and splits
            and (
                (together and at == 0 and len(deeper & set(splits)) > 1)
                or (together and at > 0)
                or len(inside & set(others)) > 1
            )
        ):
            return _Level(at, splits, others)
    return None


def _is_company(names: set[str], splits: dict[str, str]) -> bool:
    """Whether these folders of one folder are of two splits, or several folds."""
    here = [splits[name] for name in names if name in splits]
    return len(set(here)) > 1 or here.count(FOLD) > 1


def _shared(labelled: Sequence[tuple[Parts, str]]) -> list[str]:
    """Classes that are in more than one split, in any case of letters; queries, gallery and test
    are one split."""
    sides: dict[str, set[str]] = defaultdict(set)
    for name, split in labelled:
        side = split if split in ("train", "val", FOLD, "") else "test"
        sides["/".join(name).casefold()].add(side)
    names = {"/".join(name) for name, _ in labelled}
    return sorted(name for name in names if len(sides[name.casefold()]) > 1)


def _undecided(source: str, names: str, folds: bool, shared: list[str], setting: str) -> str:
    what = f"{source} looks like split folders ({names})"
    if folds:
        what += ", of which none is for training or testing alone"
    elif shared:
        what += (
            f" that share classes ({_named(shared)}), and classes that are tested on must not be "
            "trained on"
        )
        if len({name.casefold() for name in shared}) < len(shared):
            what += " (those that differ in capitals alone are one thing: rename one side)"
    else:
        what += ", and some classes are in none of them"
    if setting == "split":
        what += f", so {SETTING}=split cannot be done"
    return (
        f"{what}: say {SETTING}=merge, and a class is all its images and classes are split by "
        f"name; or {SETTING}=none, and each folder is a class of its own."
    )


def _as_split(splits: list[str], there: set[str], names: str) -> tuple[list[str], str]:
    """The splits as the index has them, and what is said."""
    meant = {}
    if "query" in there and "gallery" not in there and "test" in there:
        meant["test"] = "gallery"  # as person re-identification has them
    if not there & {"test", "query", "gallery"}:
        meant["val"] = "test"
    also = "".join(f", {old} as {new}" for old, new in meant.items())
    return [meant.get(s, s) for s in splits], f"{names} are taken as the split{also}"


def _named(names: Sequence[str] | dict[str, str] | set[str], most: int = 5) -> str:
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
