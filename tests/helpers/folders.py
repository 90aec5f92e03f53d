"""Folders of images, and what lies in a folder."""

from pathlib import Path

from tiny_project import class_image, png


def files(root: Path) -> set[str]:
    """Everything in the project that is not an empty folder."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def make_images(root: Path, sizes: list[int], **instead: bytes) -> Path:
    """One class a size; `instead` replaces the first image of a class."""
    for label, size in enumerate(sizes):
        for number in range(size):
            file = root / f"class{label}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            data = instead.get(f"class{label}") if number == 0 else None
            file.write_bytes(data or png(class_image(label, number)))
    return root
