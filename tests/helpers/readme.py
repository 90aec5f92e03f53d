"""What the README and the pages that go on from it tell their reader to type."""

import re

from tiny_project import ROOT

README = (ROOT / "README.md").read_text()
PAGES = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "docs/index.md",
        "docs/pipeline.md",
        "docs/clusters.md",
        "docs/results.md",
        "docs/studies.md",
    )
}


def commands(text: str | None = None) -> list[str]:
    """The lines of shell blocks, without comments: of a text, or of all pages, each once."""
    text = "\n".join(PAGES.values()) if text is None else text
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line))
