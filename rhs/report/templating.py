"""Where the pages' templates come from."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """The page that a template of `templates/` makes of these values; all text is escaped."""
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["breakable"] = breakable
    return pages.get_template(template).render(**values)


def breakable(name: str) -> Markup:
    """The name, escaped, that may break after a separator: class names are often one long word."""
    return Markup(re.sub(r"(?<=[_./-])(?=[^_./-])", "<wbr>", str(escape(name))))
