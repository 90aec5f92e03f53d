"""Measures the structure of the code, so that a change can be held to it.

    python -m benchmarks.house [FOLDER] [--list]

Prints a table of the packages `rhs` and `pipelines` (or of those in another checkout): files and
lines, functions that are longer than 45 lines, arguments given by position, shares
of docstrings and annotations, `# fmt: skip`, and the way from the training stage to the loss.
"""

import argparse
import ast
import statistics
from collections import deque
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("rhs", "pipelines")
LONGEST_FUNCTION = 45  # lines
LONGEST_FILE = 250  # lines
MOST_POSITIONAL = 6  # arguments
# Who calls whom from the stage to the loss; imports lead from each to the next, directly or not.
CALLS = (
    "pipelines.train",
    "rhs.training.worker",
    "rhs.training.loop",
    "rhs.methods.objective",
    "rhs.methods.losses.npair",
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(root: Path) -> dict[str, Path]:
    """Name of each module of the packages -> its file."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def positional(function: Function) -> int:
    """Arguments that may be given by position, but for self and cls."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def is_annotated(function: Function) -> bool:
    """Whether every argument and the result have a type."""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    given = [each for each in given if each.arg not in ("self", "cls")]
    typed = all(each.annotation is not None for each in given)
    return typed and (function.returns is not None or function.name == "__init__")


def is_public(function: Function) -> bool:
    return not function.name.startswith("_")


def imports(tree: ast.AST, known: dict[str, Path]) -> set[str]:
    """The project's own modules that a module imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                node.module,
                *(f"{node.module}.{each.name}" for each in node.names),
            }
    return found & set(known)


def hops(root: Path) -> list[str]:
    """The modules that a call passes from the training stage to a loss.

    The loop is handed its objective, and the objective its loss: no import says so.
    """
    known = modules(root)
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in known.items()}
    way = [CALLS[0]]
    for goal in CALLS[1:]:
        way += _shortest(trees, known, way[-1], goal)[1:] or [goal]
    return way


def _shortest(trees: dict, known: dict[str, Path], start: str, goal: str) -> list[str]:
    """The shortest way of imports within the training package; [] if there is none."""
    before: dict[str, str] = {start: ""}
    waiting = deque([start])
    while waiting:
        name = waiting.popleft()
        if name == goal:
            way = [name]
            while before[way[0]]:
                way.insert(0, before[way[0]])
            return way
        for other in sorted(imports(trees[name], known)):
            if other not in before and other.startswith("rhs.training."):
                before[other] = name
                waiting.append(other)
    return []


def measure(root: Path) -> dict[str, str]:
    """Name of each figure -> the figure, in words."""
    known = modules(root)
    texts = {name: path.read_text(encoding="utf-8") for name, path in known.items()}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    lines = {name: len(text.splitlines()) for name, text in texts.items()}
    every = [(name, each) for name, tree in trees.items() for each in functions(tree)]
    lengths = [each.end_lineno - each.lineno + 1 for _, each in every if each.end_lineno]
    takes = [positional(each) for _, each in every]
    calls = [
        len(node.args)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and not any(isinstance(a, ast.Starred) for a in node.args)
    ]
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    public = [each for _, each in every if is_public(each)]
    documented = sum(ast.get_docstring(each) is not None for each in public)
    return {
        "files": f"{len(known):,}",
        "lines": f"{sum(lines.values()):,}",
        f"files over {LONGEST_FILE} lines": f"{sum(n > LONGEST_FILE for n in lines.values())}",
        "longest file": f"{max(lines.values())}",
        "functions": f"{len(every):,}, median {statistics.median(lengths):.0f} lines",
        f"functions over {LONGEST_FUNCTION} lines": str(sum(n > LONGEST_FUNCTION for n in lengths)),
        "longest function": f"{max(lengths)}",
        "most positional parameters": f"{max(takes)}",
        f"functions that take over {MOST_POSITIONAL} by position": _over(takes),
        f"calls with over {MOST_POSITIONAL} by position": _over(calls),
        "public functions with a docstring": f"{documented / len(public):.0%}",
        "functions with all types": f"{sum(is_annotated(e) for _, e in every) / len(every):.0%}",
        "`# fmt: skip`": f"{sum(text.count('# fmt: skip') for text in texts.values())}",
        "`getattr` with a default": f"{sum(map(_is_getattr, nodes))}",
        "hops from pipelines/train.py to a loss": f"{len(hops(root)) - 1}",
    }


def offenders(root: Path) -> Iterator[str]:
    """A line for each file, function and call that is over the bounds above."""
    for path in modules(root).values():
        text, place = path.read_text(encoding="utf-8"), path.relative_to(root)
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            yield f"{place}: {lines} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    yield f"{place}:{node.lineno}: {node.name} has {lines} lines"
                if positional(node) > MOST_POSITIONAL:
                    yield f"{place}:{node.lineno}: {node.name} takes {positional(node)} by position"
            elif isinstance(node, ast.Call) and len(node.args) > MOST_POSITIONAL:
                yield f"{place}:{node.lineno}: a call gives {len(node.args)} by position"


def _over(counts: list[int]) -> str:
    return str(sum(count > MOST_POSITIONAL for count in counts))


def _is_getattr(node: ast.AST) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return called and node.func.id == "getattr" and len(node.args) == 3  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", default=".", type=Path, help="a checkout")
    parser.add_argument("--list", action="store_true", help="name the offenders too")
    options = parser.parse_args()
    figures = measure(options.folder)
    print("| | |\n|---|---|")
    for name, figure in figures.items():
        print(f"| {name} | {figure} |")
    print(f"\nThe way to the loss: {' -> '.join(hops(options.folder))}")
    if options.list:
        print("", *offenders(options.folder), sep="\n")


if __name__ == "__main__":
    main()
