"""Counts what becomes of each image in preprocessing."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rhs.data.splits import RETRIEVAL


class ImageCounts:
    """Counts what becomes of each image.

    Attributes:
        kept: (class name, checksum) of each image that is in a shard.
        sides: {"query" | "gallery": {class name: images}}, where the test split has these two.
        ambiguous: images kept although an exact copy stands in another class.
        refused: the manifest's entries; begins with what the fetch stage refused.
        odd: the manifest's entries.
        chosen: what is to be said of how the classes were split.
    """

    def __init__(self, refused_by_fetch: list[dict[str, str]], chosen: str = "") -> None:
        self.chosen = chosen
        self._name_of: dict[str, str] = {}  # class -> one of its images
        self.kept: list[tuple[str, str]] = []
        self.refused = [{**entry, "class_name": ""} for entry in refused_by_fetch]
        self.odd: list[dict[str, str]] = []
        self.converted: Counter[str] = Counter()
        self.resized = 0
        self.sides: dict[str, Counter[str]] = {side: Counter() for side in RETRIEVAL}
        self.ambiguous = 0

    def refuse(self, row: dict[str, Any]) -> None:
        self.refused.append({key: row[key] for key in ("name", "class_name", "why")})

    def keep(self, row: dict[str, Any], ambiguous: bool = False) -> None:
        self.kept.append((row["class_name"], row["sha256"]))
        self._name_of[row["class_name"]] = row["name"]
        self.ambiguous += ambiguous
        if row["split"] in self.sides:
            self.sides[row["split"]][row["class_name"]] += 1
        self.resized += row["resized"]
        about = {key: row[key] for key in ("name", "class_name")}
        self.odd += [{**about, "what": what} for what in row["odd"]]
        if row["converted"]:
            self.converted[row["converted"]] += 1

    def refused_rows(self) -> list[Sequence[object]]:
        """What was refused, as a list for people."""
        header = ("name", "class_name", "why")
        return [header, *(tuple(entry[key] for key in header) for entry in self.refused)]

    def kept_rows(self) -> list[Sequence[object]]:
        """What was kept though it is odd or alone in its class, as a list for people."""
        header = ("name", "class_name", "what")
        sizes = Counter(class_name for class_name, _ in self.kept)
        odd = [tuple(entry[key] for key in header) for entry in self.odd]
        alone = "alone in its class: kept in the gallery, never a query or an anchor"
        single = [(self._name_of[c], c, alone) for c, n in sorted(sizes.items()) if n == 1]
        return [header, *odd, *single]
