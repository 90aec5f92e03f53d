"""The explorer: one page with a run's queries, neighbors, confusions and map, to click through.

Everything is in the page: its data as JSON, which nothing executes, and its script, which a content
security policy pins by digest, so that no name in the data can ever run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rhs.report.templating import TEMPLATES, render

# One scope, in this order.
SCRIPTS = ("dom", "run", "state", "list", "query", "tables", "map", "compare", "main")


def write_explorer(path: Path, data: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        data: as `rhs.report.explorer.page_data.build_page_data` gives it.
        shared: what every page's template asks for.
    """
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = render(
        "explorer.html",
        **shared,
        about=data["about"],
        script=Markup(script),
        script_digest=digest,
        data=Markup(as_json(data)),
    )
    path.write_text(page, encoding="utf-8")


def as_json(data: Mapping[str, Any]) -> str:
    """JSON that can stand in a script element: without "<" it can neither end it nor open one."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _script() -> str:
    parts = [(TEMPLATES / f"explorer_{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    script = '\n"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"
    assert "</script" not in script, "it would end the script here"
    return script
