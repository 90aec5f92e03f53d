"""A page of docs/ that mkdocs.yml does not place comes last in the list of pages."""

from pathlib import Path


def on_config(config, **_):
    placed = str(config["nav"])
    pages = sorted(page.name for page in Path(config["docs_dir"]).glob("*.md"))
    config["nav"] += [page for page in pages if f"'{page}'" not in placed]
    return config
