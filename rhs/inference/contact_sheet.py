"""The contact sheet of a search: one HTML file, each query with what was found."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from rhs.data.thumbnail import thumbnail
from rhs.inference.index import Hit
from rhs.storage.atomic import atomic_file

QUERY_SIDE = 144  # pixels
STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #777; }
body { font: 14px/1.4 system-ui, sans-serif; margin: 24px; }
h1 { font-size: 18px; font-weight: 600; margin: 0; }
p { color: var(--quiet); margin: 4px 0 20px; }
section { display: flex; flex-wrap: wrap; gap: 12px; padding: 16px 0;
  border-top: 1px solid var(--line); }
figure { margin: 0; width: 120px; }
figure.query { width: 160px; padding-right: 12px; border-right: 1px solid var(--line); }
.picture { height: 120px; display: flex; align-items: center; justify-content: center;
  background: #8881; border-radius: 4px; color: var(--quiet); }
.query .picture { height: 160px; }
img { max-width: 100%; max-height: 100%; display: block; }
figcaption { font-size: 12px; margin-top: 4px; overflow-wrap: anywhere; }
figcaption b { font-variant-numeric: tabular-nums; }
figcaption small { color: var(--quiet); display: block; }
"""
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Nearest images</title>
<style>{style}</style>
<h1>Nearest images</h1>
<p>{about}</p>
{rows}
</html>
"""


def write_sheet(
    out: Path, queries: Sequence[tuple[str, bytes]], found: Sequence[Sequence[Hit]], about: str
) -> None:
    """Write the sheet, whole or not at all.

    Args:
        queries: (name, prepared JPEG or PNG) of each query.
        found: what was found for each, nearest first.
        about: a line on what was searched.
    """
    rows = "\n".join(_row(*query, hits) for query, hits in zip(queries, found, strict=True))
    page = PAGE.format(style=STYLE, about=escape(about), rows=rows)
    with atomic_file(out) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")


def _row(name: str, data: bytes, hits: Sequence[Hit]) -> str:
    query = _figure("query", thumbnail(data, QUERY_SIDE), "query", "", name)
    others = (
        _figure(
            "found", hit.item.thumbnail, f"{hit.similarity:.3f}", hit.item.class_name, hit.item.name
        )
        for hit in hits
    )
    return f"<section>{query}{''.join(others)}</section>"


def _figure(kind: str, data: bytes, head: str, class_name: str, name: str) -> str:
    picture = (
        f'<img src="{_uri(data)}" alt="{escape(class_name or name)}">' if data else "no thumbnail"
    )
    return (
        f'<figure class="{kind}"><div class="picture">{picture}</div>'
        f"<figcaption><b>{head}</b> {escape(class_name)}<small>{escape(name)}</small></figcaption>"
        "</figure>"
    )


def _uri(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
