"""From the name of a loss to the loss."""

from collections.abc import Mapping
from types import NoneType
from typing import Any

import torch

from rhs.config.instantiate import TRUSTED
from rhs.config.target_checks import check_target
from rhs.errors import UserError
from rhs.library.metric_loss import MetricLoss
from rhs.library.registry import loss_settings
from rhs.methods.objective import NOT_OURS, OUTSIDE, build_objective

PLAIN = (Mapping, list, tuple, str, int, float, NoneType)  # what a file can say; else an object


def create_loss(
    name: str,
    num_classes: int,
    embedding_size: int,
    total_steps: int | None = None,
    *,
    class_values: torch.Tensor | None = None,
    **overrides: Any,
) -> MetricLoss:
    """A loss by its name, for any training loop.

        loss_fn = rhs.create_loss("rhs_npair", num_classes=100, embedding_size=128,
                                  total_steps=10_000)
        loss = loss_fn(embeddings, labels)

    Args:
        name: one of `rhs.list_losses()`.
        num_classes: C, classes of the training set.
        embedding_size: D, length of an embedding.
        total_steps: steps of the whole training, for losses that change as it goes on; else tell
            them with `loss_fn.set_progress`.
        class_values: [C, L] continuous labels of the classes, for a loss of such (`log_ratio`);
            without them `loss_fn` is called with each image's own.
        overrides: settings of the loss, as its file in `conf/method/` has them:
            `original_weight=0`; of a part by its name where one part alone has it (`momentum=0.9`),
            or with the part (`loss={"scale": 20.0}`, or `**{"loss.scale": 20.0}`). A part with
            another `_target_` takes the place of the file's; so does an object.

    Raises:
        UserError: no such loss, or a setting that it does not have or take.
    """
    settings = {k: v for k, v in loss_settings(name).items() if k not in NOT_OURS}
    objects = {}
    for key, value in overrides.items():
        if not isinstance(value, PLAIN):
            objects[key] = value
        else:
            settings = _merged(settings, _placed(name, settings, key, value))
    known = {key: value for key, value in settings.items() if key not in objects}
    check_target(name, known, TRUSTED, OUTSIDE, given=list(objects))
    objective = build_objective(settings | objects)
    return MetricLoss(
        objective, num_classes, embedding_size, total_steps=total_steps, class_values=class_values
    )


def _placed(name: str, settings: dict, key: str, value: Any) -> dict:
    """The override as nested settings: {"loss": {"scale": 20.0}}."""
    if "." in key:
        first, _, rest = key.partition(".")
        return {first: _placed(name, settings.get(first) or {}, rest, value)}
    if key in settings:
        return {key: value}
    parts = [part for part, own in settings.items() if isinstance(own, dict) and key in own]
    if len(parts) > 1:
        ways = " or ".join(f"{part}={{{key!r}: …}}" for part in parts)
        raise UserError(f"Several parts of {name} have a {key}: write {ways}.")
    return {parts[0]: {key: value}} if parts else {key: value}


def _merged(settings: dict, override: dict) -> dict:
    """Settings with those of `override` in their places."""
    merged = dict(settings)
    for key, value in override.items():
        old = merged.get(key)
        if not (isinstance(value, Mapping) and isinstance(old, Mapping)):
            merged[key] = value
        elif value.get("_target_", old.get("_target_")) == old.get("_target_"):
            merged[key] = _merged(dict(old), dict(value))
        else:
            later = {k: old[k] for k in ("_partial_",) if k in old}
            merged[key] = later | dict(value)
    return merged
