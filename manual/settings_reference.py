"""A page for each group of `conf/`: every file, its settings, their defaults and their comments."""

import re
from pathlib import Path

from mkdocs.structure.files import File, Files

CONF = Path(__file__).parents[1] / "conf"
SETTING = re.compile(
    r"(?P<indent> *)(?P<key>[\w.@/ -]+):(?: +(?P<value>[^#].*?))?(?:\s+#(?P<why>.*))?$"
)
ABOUT = {
    "config.yaml": "what a run is made of: the default of each group",
    "dataset": "which images, and how they are split",
    "fetch": "how files are downloaded",
    "preprocess": "how images become shards",
    "model": "the network",
    "method": "the loss: centers, generator, mining, loss",
    "train": "batches, epochs, learning rates",
    "evaluate": "what is measured",
    "index": "the index for search",
    "cluster": "where it runs; changes no result",
    "tracking": "where numbers are recorded",
    "experiment": "choices in several groups at once",
    "tune": "searches over settings",
    "study": "comparisons of methods",
}


def on_files(files: Files, config, **_) -> Files:
    groups = [group for group in ABOUT if (CONF / group).exists()]
    groups += sorted(
        each.name for each in CONF.iterdir() if each.is_dir() and each.name not in ABOUT
    )
    rows = [
        f"| [`{group}`](configuration/{_page(group)}) | {ABOUT.get(group, '')} |\n"
        for group in groups
    ]
    index = (
        "# Settings\n\nEach folder of `conf/` is one decision, each file in it one choice, and "
        "each line of a file a setting.\n`dvc exp run -S method=npair` takes another file, "
        "`-S train.epochs=20` another value. These pages are made\nof the files and their comments."
        "\n\n| Group | What it decides |\n|---|---|\n"
    )
    files.append(File.generated(config, "configuration.md", content=index + "".join(rows)))
    for group in groups:
        content = page_of(group)
        files.append(File.generated(config, f"configuration/{_page(group)}", content=content))
    return files


def page_of(group: str) -> str:
    """The page on a group, or on `config.yaml`."""
    about = ABOUT.get(group, "")
    path = CONF / group
    sources = sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
    text = f"# {group}\n\n{about[:1].upper()}{about[1:]}.\n\n" if about else f"# {group}\n\n"
    return text + "\n".join(_section(source) for source in sources)


def _page(group: str) -> str:
    return f"{group.removesuffix('.yaml')}.md"


def _section(source: Path) -> str:
    """One file: what its first comment says, and a table of its settings."""
    name = source.relative_to(CONF).with_suffix("").as_posix()
    about, rows = settings(source.read_text(encoding="utf-8"))
    cells = [
        f"| `{key}` | {_code(value)} | {_escaped(comment)} |\n" for key, value, comment in rows
    ]
    table = "| Setting | Value | Meaning |\n|---|---|---|\n" + "".join(cells) if cells else ""
    return f"## `{name}`\n\n{_escaped(about)}\n\n{table}\n"


def settings(text: str) -> tuple[str, list[tuple[str, str, str]]]:
    """What a YAML file is about, and (key, value, comment) of each of its lines.

    A comment belongs to the setting on its line, or to the first one after it; further lines of
    a comment begin farther right.
    """
    about: list[str] = []
    rows: list[list[str]] = []
    before: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("#"):
            words = bare.lstrip("# ")
            if not rows:
                about.append(words)
            elif len(line) - len(line.lstrip()) > 8:
                rows[-1][2] += f" {words}"
            else:
                before.append(words)
        elif found := SETTING.match(line):
            indent, key = len(found["indent"]), found["key"].strip()
            while parents and parents[-1][0] >= indent:
                parents.pop()
            parents.append((indent, key))
            comment = " ".join([*before, (found["why"] or "").strip()]).strip()
            before = []
            if found["value"] or comment:
                rows.append([".".join(k for _, k in parents), found["value"] or "", comment])
        elif bare and rows:
            value, _, comment = bare.partition(" #")
            rows[-1][1] += f" {value.strip()}"
            rows[-1][2] += f" {comment.strip()}"
    return " ".join(about), [(key, value.strip(), why.strip()) for key, value, why in rows]


def _code(value: str) -> str:
    return "`` {} ``".format(value.replace("|", "\\|")) if value else ""


def _escaped(text: str) -> str:
    """Text of a comment, which is not Markdown."""
    return re.sub(r"([|*_<>\[\]`$])", r"\\\1", text.replace("@package \\_global\\_", ""))
