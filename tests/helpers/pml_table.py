"""Which losses of pytorch-metric-learning work, found by trying each; `make pml-table` writes the
table of them into the manual.

    PYTHONPATH=.:tests/helpers python -m pml_table
"""

import inspect
import re

import pytorch_metric_learning.losses
from tiny_project import ROOT, method_config

from rhs.errors import UserError
from rhs.methods.check_method import check_method
from rhs.methods.objective import Objective

PAGE = ROOT / "docs/methods.md"
SECTION = re.compile(r"(?<=<!-- losses of pytorch-metric-learning -->\n).*?(?=<!-- end -->)", re.S)
CLASSES, DIM = 8, 4
# A setting that each of them insists on.
NEEDS = {
    "CrossBatchMemory": {"loss": "TripletMarginLoss"},
    "MultipleLosses": {"losses": ["SubCenterArcFaceLoss", "TripletMarginLoss"]},
    "RankedListLoss": {"margin": 1.0, "Tn": 10},
    "SelfSupervisedLoss": {"loss": "TripletMarginLoss"},
}


def losses() -> list[str]:
    found = vars(pytorch_metric_learning.losses).items()
    return sorted(
        name for name, kind in found if inspect.isclass(kind) and not name.endswith("Mixin")
    )


def settings(name: str, **more) -> dict:
    """The method's file with this loss."""
    target = {"_target_": f"pytorch_metric_learning.losses.{name}", "_partial_": True}
    return method_config("pml") | {"name": "pml", "loss": target | more}


def needed(name: str) -> dict:
    """The settings that a loss insists on, as a configuration has them."""

    def named(value):
        if isinstance(value, list):
            return [named(each) for each in value]
        if isinstance(value, str):
            return {"_target_": f"pytorch_metric_learning.losses.{value}"}
        return value

    return {key: named(value) for key, value in NEEDS.get(name, {}).items()}


def outcome(name: str) -> str:
    """What becomes of a loss with `method=pml`."""
    try:
        return _works(check_method(settings(name), CLASSES, DIM))
    except UserError as error:
        found = str(error)
    if name in NEEDS:
        try:
            keys = ", ".join(f"`{key}`" for key in NEEDS[name])
            objective = check_method(settings(name, **needed(name)), CLASSES, DIM)
            return f"{_works(objective)}; needs {keys}"
        except UserError as error:
            found = str(error)
    reason = found.removeprefix(f"{name} ").split(":")[0].split(", so that")[0]
    return f"refused: {reason}"


def _works(objective: Objective) -> str:
    learned = sum(parameter.numel() for parameter in objective.parameters())
    return "works, with learned weights" if learned else "works"


def table() -> str:
    rows = "".join(f"| `{name}` | {outcome(name)} |\n" for name in losses())
    return f"\n| Loss of the library | With `method=pml` |\n|---|---|\n{rows}\n"


def main() -> None:
    """Write the table into its place."""
    page = PAGE.read_text(encoding="utf-8")
    found = table()
    PAGE.write_text(SECTION.sub(lambda _: found, page), encoding="utf-8")


if __name__ == "__main__":
    main()
