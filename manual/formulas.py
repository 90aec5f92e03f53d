"""Formulas of the pages, `$…$` and `$$…$$`, as MathML: browsers draw it without any script."""

import re

from latex2mathml.converter import convert

CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.DOTALL)
# A prime is raised in every font; raised again, it would be too small to see.
RAISED_PRIME = re.compile(r"<msup>(<mi>[^<]*</mi>)<mi>(&#x02032;)</mi></msup>")
FUNCTION = re.compile(r"(<mi>(?:sin|cos|log)</mi>)(?!<mo stretchy=\"false\">&#x00028;)")
PLACE = "FORMULA{}ALUMROF"
_formulas: list[str] = []


def on_page_markdown(markdown: str, page, **_) -> str:
    """Puts a word in each formula's place, so that Markdown does not read the formula."""
    _formulas.clear()
    pieces = CODE.split(markdown)
    pieces[::2] = [FORMULA.sub(_put_away, piece) for piece in pieces[::2]]
    return "".join(pieces)


def on_page_content(html: str, **_) -> str:
    """Puts the formulas back."""
    return re.sub(PLACE.format(r"(\d+)"), lambda found: _formulas[int(found[1])], html)


def _put_away(found: re.Match) -> str:
    shown, inline = found.groups()
    if shown is not None:  # what MathML has no room for stands on lines of its own
        lines = [_mathml(line, "block") for line in shown.split(r"\qquad")]
        _formulas.append("".join(lines))
    else:
        _formulas.append(_mathml(inline, "inline"))
    return PLACE.format(len(_formulas) - 1)


def _mathml(formula: str, display: str) -> str:
    text = RAISED_PRIME.sub(
        r"<mrow>\1<mo lspace='0' rspace='0'>\2</mo></mrow>", convert(formula, display=display)
    )
    return FUNCTION.sub(r"\1<mspace width='0.17em'/>", text)
