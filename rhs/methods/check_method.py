"""Two small steps with a method, so that what cannot work is said before any data is read."""

from typing import Any

import torch

from rhs.config.instantiate import TRUSTED
from rhs.config.target_checks import check_target
from rhs.errors import UserError
from rhs.methods.objective import NOT_OURS, OUTSIDE, Objective, build_objective, takes_values

PARTS = ("loss", "mining", "generator", "centers", "signatures")  # sentences begin with their name


def check_method(config: dict, num_classes: int = 4, dim: int = 8, **more: Any) -> Objective:
    """Build the method and take two small steps with it.

    Args:
        num_classes, dim: of the data and the model it is meant for.
        more: as for `Objective.prepare`.

    Raises:
        UserError: it cannot be built, or not computed, from its settings.
    """
    settings = {key: value for key, value in config.items() if key not in NOT_OURS}
    check_target("method", settings, TRUSTED, OUTSIDE)
    try:
        objective = build_objective(config)
        objective.prepare(num_classes, dim, **more)
        labels_B = torch.arange(8) // 2 % num_classes
        own = more.get("images_have_values") and takes_values(objective)
        values_B1 = torch.arange(8.0)[:, None] if own else None
        x_BD = torch.randn(8, dim, generator=torch.Generator().manual_seed(0)).requires_grad_()
        if objective.needs_refresh(0):
            objective.refresh(0, [(x_BD.detach(), labels_B)])
        for _ in range(2):
            objective(x_BD, labels_B, values=values_B1)[0].backward()
    except UserError as error:
        part = str(error).partition(".")[0]
        raise UserError(f"{'method.' if part in PARTS else ''}{error}") from None
    except Exception as error:  # of whatever kind: a setting that its author did not foresee
        why = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
        if isinstance(error, KeyError):
            why = f"{why} is missing"
        raise UserError(f"method {config['name']} does not work as it is set: {why}.") from error
    return objective
