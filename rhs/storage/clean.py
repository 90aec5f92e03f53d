"""`make clean`: delete what the stages made, and nothing else."""

import os
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from rhs.storage.outputs import FILES, LISTS, OUTPUTS, is_of_system, others

# Beside the folders: of runs that were killed, and lists of a stage that refused.
BESIDE = (".*.lock", ".*.tmp", ".last.json", ".*.seen.json", *(f"*.{name}" for name in LISTS))
SHOWN = 3  # files of a folder


def clean(root: Path) -> list[str]:
    """Delete every output beneath `root`, the project.

    Returns:
        A line on each thing that stays: what no stage made, and links with all behind them.
    """
    left = [line for folder, patterns in _folders(root) for line in _emptied(folder, patterns)]
    for output in OUTPUTS:
        parent = root / output.removesuffix("/*")
        if output.endswith("/*") and parent.is_dir() and not parent.is_symlink():
            left += _emptied_beside(parent)
    for file in (root / name for name in FILES):
        if file.is_file() and not file.is_symlink():
            file.unlink()
    return left


def _folders(root: Path) -> Iterator[tuple[Path, Sequence[str]]]:
    """Each folder of OUTPUTS that is there, and the names of its files."""
    known = {root / output for output in OUTPUTS}
    for output, patterns in OUTPUTS.items():
        parent = root / output.removesuffix("/*")
        if parent.is_symlink() or not output.endswith("/*"):
            if parent.exists() and not parent.parent.is_symlink():
                yield parent, patterns
        elif parent.is_dir():
            folders = sorted(path for path in parent.iterdir() if path.is_dir())
            yield from ((folder, patterns) for folder in folders if folder not in known)


def _emptied(folder: Path, patterns: Sequence[str]) -> list[str]:
    """Delete our files in a folder, and the folder with them where nothing else is in it."""
    if folder.is_symlink():
        return [f"{folder}: it is a link"]
    if folder.is_file():
        return [f"{folder}: it is a file that no stage made"]
    stay = list(others(folder, patterns))
    _delete(folder, {folder / path for path in stay})
    names = ", ".join(map(str, stay[:SHOWN]))
    more = f" and {len(stay) - SHOWN:,} more" if len(stay) > SHOWN else ""
    return [f"{folder}: no stage made {names}{more}"] if stay else []


def _delete(folder: Path, stay: Collection[Path]) -> None:
    """Delete all files but these, and folders that hold nothing then, or what systems leave."""
    for place, _, files in os.walk(folder, topdown=False):
        paths = [Path(place, name) for name in files]
        systems = {path for path in paths if is_of_system(path.name)}
        for path in set(paths) - systems - set(stay):
            path.unlink()
        if {Path(place, name) for name in os.listdir(place)} == systems:
            for path in systems:
                path.unlink()
            Path(place).rmdir()


def _emptied_beside(parent: Path) -> list[str]:
    """Delete what runs left beside the folders of `parent`, and it with them where it is empty."""
    left = []
    for path in sorted(path for path in parent.iterdir() if not path.is_dir()):
        if any(fnmatchcase(path.name, pattern) for pattern in BESIDE):
            path.unlink()
        elif not is_of_system(path.name):
            left.append(f"{path}: no stage made it")
    if not any(parent.iterdir()):
        parent.rmdir()
    return left


def main() -> None:
    if left := clean(Path()):
        print("left as it is:")
    for line in left:
        print(f"  {line}")


if __name__ == "__main__":
    main()
