"""What the classes of the training split are called, and numbered, while training."""

import re

import numpy as np

from rhs.errors import UserError


def training_labels(
    labels_N: np.ndarray, class_names: list[str], coarse: str | None = None
) -> tuple[np.ndarray, list[str]]:
    """Number the classes that occur from 0, or the groups that their names fall into.

    Args:
        labels_N: indices into `class_names`.
        coarse: a regular expression; a class belongs to the group named by what its first
            parenthesis, or the whole expression, finds in the class's name. None: each class is a
            group of its own.

    Returns:
        (number of each image's group [N], the groups' names, sorted)

    Raises:
        UserError: not a regular expression, or a class name in which it finds nothing.
    """
    present = sorted(set(labels_N.tolist()))
    group = {label: _group(class_names[label], coarse) for label in present}
    names = sorted(set(group.values()))
    number = {name: i for i, name in enumerate(names)}
    table = np.zeros(max(present, default=-1) + 1, dtype=np.int64)
    table[present] = [number[group[label]] for label in present]
    return table[labels_N], names


def values_of(names: list[str]) -> np.ndarray | None:
    """The classes' names as numbers, float64 [C, 1]; None unless all are, finite and distinct."""
    try:
        values_C1 = np.array([[float(name)] for name in names])
    except ValueError:
        return None
    good = np.isfinite(values_C1).all() and len(np.unique(values_C1)) == len(names)
    return values_C1 if good else None


def _group(name: str, coarse: str | None) -> str:
    if coarse is None:
        return name
    if not isinstance(coarse, str):
        raise UserError(f"dataset.coarse is {coarse!r}; it must be a regular expression or null.")
    try:
        found = re.search(coarse, name)
    except re.error as error:
        raise UserError(
            f"dataset.coarse is {coarse!r}, which is not a regular expression: {error}."
        ) from error
    if found is None:
        raise UserError(f"dataset.coarse is {coarse!r}, which finds nothing in class {name!r}.")
    group = found[1] if found.re.groups else found[0]
    return "" if group is None else group
