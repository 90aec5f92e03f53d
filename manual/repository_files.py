"""Links from the pages to files of the repository lead to a page of the site that shows the file.

So the same link works on GitHub and in the site, which needs no network.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".csv": "text", ".cff": "yaml"}
PICTURES = (".png", ".svg", ".jpg")
UNSEARCHED = "---\nsearch: {exclude: true}\n---\n\n"  # the search finds what the manual says
_origins: dict[str, str] = {}  # path in the site's sources -> path in the repository


def on_files(files: Files, config, **_) -> Files:
    """Adds a page for each file that a page, or an added page, links to."""
    _origins.clear()
    docs = Path(config["docs_dir"]).relative_to(ROOT).as_posix()
    waiting = []
    for file in files.documentation_pages():
        _origins[file.src_uri] = posixpath.join(docs, file.src_uri)
        waiting.append((file.src_uri, file.content_string))
    while waiting:
        source, text = waiting.pop()
        for path in _linked(_origins[source], text):
            target = _site_path(path)
            if target in _origins or path.startswith(f"{docs}/") or path == "README.md":
                continue
            _origins[target] = path
            if path.endswith(PICTURES):
                content = (ROOT / path).read_bytes()
            else:
                content = _shown(path)
                waiting.append((target, content))
            files.append(File.generated(config, target, content=content))
    return files


def on_page_markdown(markdown: str, page, config, **_) -> str:
    """Points the links to those pages."""
    here = page.file.src_uri
    if here not in _origins:
        return markdown

    def moved(found: re.Match) -> str:
        path = _repository_path(_origins[here], found[1])
        if path == "README.md":
            path = "docs/index.md"
        target = path.removeprefix("docs/") if path and path.startswith("docs/") else None
        if path and target is None:
            target = _site_path(path)
        if target is None:
            return found[0]
        return posixpath.relpath(target, posixpath.dirname(here) or ".") + (found[2] or "")

    return LINK.sub(moved, markdown)


def _linked(origin: str, text: str) -> list[str]:
    """Files of the repository that a text links to."""
    found = (_repository_path(origin, link) for link, _ in LINK.findall(text))
    return sorted({path for path in found if path})


def _repository_path(origin: str, link: str) -> str | None:
    """Where a link leads; None where no such file is."""
    if re.match(r"[a-z]+:", link):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    return path if not path.startswith("..") and (ROOT / path).exists() else None


def _site_path(path: str) -> str:
    """Where a file of the repository is shown."""
    if path.endswith((".md", *PICTURES)):
        return f"repository/{path}"
    return f"repository/{path}/index.md" if (ROOT / path).is_dir() else f"repository/{path}.md"


def _shown(path: str) -> str:
    """The page that shows a file or folder."""
    file = ROOT / path
    if path.endswith(".md"):
        return UNSEARCHED + file.read_text(encoding="utf-8")
    if file.is_dir():
        inside = sorted(each.name for each in file.iterdir() if each.name[0] not in "._")
        return f"{UNSEARCHED}# {path}/\n\n" + "".join(
            f"- [{name}]({file.name}/{name})\n" for name in inside
        )
    language = LANGUAGES.get(file.suffix, "text")
    return f"{UNSEARCHED}# {path}\n\n````{language}\n{file.read_text(encoding='utf-8')}````\n"
