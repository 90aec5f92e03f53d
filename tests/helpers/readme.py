"""What the README and the page on studies tell their reader to type."""

import re

from tiny_project import ROOT

README = (ROOT / "README.md").read_text()
STUDIES = (ROOT / "docs/studies.md").read_text()


def commands(text: str = README) -> list[str]:
    """The lines of a page's shell blocks, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]
