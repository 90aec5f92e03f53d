"""docs/methods.md: its rows, paths, commands and options are those of the project."""

import re
import shlex
from functools import lru_cache

import pytest
import torch
from tiny_project import ROOT, composed

from rhs.errors import UserError
from rhs.methods import similarity
from rhs.methods.generators import rotation
from rhs.methods.losses import lifted
from rhs.methods.mining import batch, pairs
from rhs.methods.objective import Objective, build_objective

FILE = ROOT / "docs/methods.md"
FILES = sorted(path.stem for path in (ROOT / "conf/method").glob("*.yaml"))
OURS = [name for name in FILES if name != "pml"]  # without optional packages
TEXT = FILE.read_text()
LINES = TEXT.splitlines()
BATCH = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) // 2
OVERRIDE = re.compile(r"\+{0,2}[\w.]+=\S+")
REFUSED = "### What is refused"
ROW = re.compile(r"\| \[`(\w+)`\]\(\.\./conf/method/(\w+)\.yaml\) \|")


def rows() -> list[str]:
    return [line for line in LINES if ROW.match(line)]


def spans(text: str) -> list[str]:
    """What stands between backticks on one line; blocks of code have none."""
    return re.findall(r"`([^`\n]+)`", text)


def blocks() -> list[str]:
    found = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    return [line for block in found for line in block.splitlines() if "method=" in line]


def refused() -> list[str]:
    section = TEXT.split(REFUSED)[1].split("\n## ")[0]
    return [span for span in spans(section) if span.startswith("method=")]


def commands() -> list[str]:
    """Every command of the page, and every argument of one, but for those of the refused."""
    return sorted({*blocks(), *(span for span in spans(TEXT) if span.startswith("-S method="))})


def overrides(command: str) -> list[str]:
    """The Hydra overrides of a command; the other words of one are checked here too."""
    words = shlex.split(command)
    found = [word for word in words if OVERRIDE.fullmatch(word)]
    rest = [word for word in words if word not in found]
    if rest[:2] == ["python", "-m"]:
        assert rest == ["python", "-m", "pipelines.train"]
    else:
        prefix = rest[:3] if rest[0] == "dvc" else []
        assert prefix in ([], ["dvc", "exp", "run"])
        assert words[len(prefix) :: 2] == ["-S"] * len(found)
    return found


@lru_cache
def method(*found: str) -> dict:
    """The method that overrides describe."""
    return composed(*found).method


def built(config: dict) -> Objective:
    """The objective, ready for BATCH."""
    if "pytorch_metric_learning" in str(config):
        pytest.importorskip("pytorch_metric_learning")
    made = build_objective(config)
    made.prepare(6, 4, values_CL=torch.arange(6.0)[:, None])
    return made


def test_every_method_has_one_row_and_every_row_a_method():
    named = [ROW.match(row).groups() for row in rows()]
    assert all(name == file for name, file in named)
    assert sorted(name for name, _ in named) == FILES


@pytest.mark.parametrize("row", rows(), ids=lambda row: ROW.match(row)[1])
def test_the_command_of_a_row_runs_its_method(row):
    name = ROW.match(row)[1]
    (command,) = [span for span in spans(row) if span.startswith("-S ")]
    assert method(*overrides(command))["name"] == name


@pytest.mark.parametrize("command", commands())
def test_every_command_composes_and_makes_an_objective(command):
    config = method(*overrides(command))
    loss, _ = built(config)(*BATCH)
    assert torch.isfinite(loss)


@pytest.mark.parametrize("command", refused())
def test_what_is_called_refused_is_refused(command):
    config = method(*command.split())
    with pytest.raises(UserError):
        build_objective(config)


def test_the_page_shows_commands_and_refusals():
    assert len(commands()) > len(FILES)
    assert len(refused()) > 10


def test_every_method_and_setting_named_in_the_text_exists():
    named = [span for line in table("You want") for span in spans(line)]
    assert named
    assert set(named) <= set(FILES)
    keys = {"centers", "generator", "mining", "loss", "measure", "signatures", "original_weight"}
    found = {span.split(".")[1] for span in spans(TEXT) if re.fullmatch(r"method\.[\w.]+", span)}
    assert found
    assert found <= keys


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    local = [link for link in links if not link.startswith(("https://", "#"))]
    assert local
    assert [link for link in local if not (FILE.parent / link).exists()] == []
    headings = {line.lstrip("# ").lower().replace(" ", "-") for line in LINES if line[:1] == "#"}
    assert {link[1:] for link in links if link.startswith("#")} <= headings


def test_every_row_of_a_table_has_the_cells_of_its_head():
    """A bar in a formula would be one more."""
    width = 0
    for line in LINES:
        if not line.startswith("|"):
            width = 0
            continue
        cells = line.count("|") - 1
        width = width or cells
        assert cells == width, line
        assert line.endswith("|")


def formulas() -> list[str]:
    shown = re.findall(r"\$\$(.+?)\$\$", TEXT, re.DOTALL)
    inline = re.findall(r"\$([^$\n]+)\$", re.sub(r"\$\$.+?\$\$", "", TEXT, flags=re.DOTALL))
    return [" ".join(formula.split()) for formula in [*shown, *inline]]


def test_every_formula_is_well_formed():
    from matplotlib.mathtext import MathTextParser

    assert formulas()
    parser = MathTextParser("path")
    for formula in sorted(set(formulas())):
        parser.parse(f"${formula}$")
        # Markdown reads these first, and takes the backslash away.
        assert re.search(r"\\[^A-Za-z]", formula) is None, formula
    assert "$" not in re.sub(r"\$\$?[^$]+\$\$?", "", TEXT)


def table(first: str) -> list[str]:
    """The rows of the table whose head starts with that cell."""
    start = next(i for i, line in enumerate(LINES) if line.startswith(f"| {first} |"))
    size = next(i for i, line in enumerate(LINES[start:]) if not line.startswith("|"))
    return LINES[start + 2 : start + size]


def explained(first: str, column: int) -> set[str]:
    """The code in a column of a table."""
    return {span for row in table(first) for span in spans(row.split("|")[column + 1])}


@pytest.mark.parametrize(
    ("head", "column", "options"),
    [
        (
            "Setting",
            1,
            {
                *rotation.SURFACES,
                *rotation.SCHEDULES,
                *rotation.GRADIENTS,
                *rotation.ROTATED,
            },
        ),
        ("Mining", 2, {*pairs.POSITIVES, *batch.POSITIVES, *batch.SHARED, *batch.PER_POSITIVE}),
        ("`measure`", 0, set(similarity.MEASURES)),
    ],
)
def test_every_option_of_a_part_is_explained_and_no_other(head, column, options):
    assert explained(head, column) == options


def test_the_forms_and_measures_of_the_losses_are_those_of_the_code():
    told = {spans(row)[0]: row for row in table("Loss")}
    assert set(lifted.FORMS) <= set(spans(told["Lifted"]))
    for name in OURS:
        loss = built(method(f"method={name}")).loss
        cell = told[type(loss).__name__].split("|")[3].strip()
        measures = set(getattr(loss, "measures", ()))
        expected = set(similarity.MEASURES) if cell == "any" else set(spans(cell))
        assert measures == expected, name


def test_every_diagnostic_of_a_method_is_explained_and_no_other():
    recorded: set[str] = set()
    for name in OURS:
        _, told = built(method(f"method={name}"))(*BATCH)
        recorded |= told.keys()
    assert explained("Name", 0) == recorded
