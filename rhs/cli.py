"""The command `rhs`: search with, embed with and export a trained model."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, NoReturn

from rhs.datasets.input_guard import refuse_target
from rhs.errors import UserError, on_one_line
from rhs.signals import end_at_once, interruptible, status_of

if __name__ == "__main__" or Path(sys.argv[0]).name == "rhs":  # the command, and no import of it
    end_at_once("interrupted")

if TYPE_CHECKING:
    from rhs.inference.image_embedder import ImageEmbedder
    from rhs.preprocessing.prepare_image import Prepared

MODEL = (
    "which model: a folder (models/NAME), a run (the name of a folder in runs/, or the id of an "
    "MLflow run), or a registered model (NAME@ALIAS, models:/NAME@ALIAS, models:/NAME/VERSION). "
    "Left out: the one in models/, if there is exactly one"
)


# What files hold that these commands wrote: others are not replaced.
SHEET, OURS = b"<title>Nearest images</title>", b"rhs.model"


class Parser(argparse.ArgumentParser):
    """A mistake in the arguments is a sentence, like any other."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`.")


def parser() -> argparse.ArgumentParser:
    """What the command line may be."""
    whole = Parser(prog="rhs", description="Search with a trained model, and take it elsewhere.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    about = "print and draw the images of an index that are nearest to some of yours"
    find = commands.add_parser("search", help=about, description=f"{about.capitalize()}.")
    find.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="of any usual format")
    find.add_argument("--model", metavar="WHERE", help=MODEL)
    find.add_argument(
        "--index", type=Path, metavar="FOLDER", help="to search in; left out: the model's own"
    )
    find.add_argument("-k", "--k", type=int, default=5, help="how many neighbors (default: 5)")
    find.add_argument(
        "--out",
        type=Path,
        default=Path("search.html"),
        metavar="FILE",
        help="the contact sheet, one HTML file (default: search.html)",
    )
    find.add_argument("--open", action="store_true", help="show the contact sheet in a browser")
    find.set_defaults(run=search)

    about = "embed every image beneath a folder"
    more = (
        "An image's class is the path of the folder it lies in, below FOLDER. Files that are no "
        "image, and folders that cannot be read, are named, with the reason, and left out; hidden "
        "ones and those of systems (thumbnails, trash) are passed over."
    )
    every = commands.add_parser("embed", help=about, description=f"{about.capitalize()}. {more}")
    every.add_argument("folder", type=Path, metavar="FOLDER")
    every.add_argument("--model", metavar="WHERE", help=MODEL)
    every.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a Parquet file, made anew"
    )
    every.set_defaults(run=embed)

    about = "write a model as ONNX"
    more = (
        "It takes uint8 images [B, 3, S, S] and gives unit embeddings [B, D]. The channels are "
        "red, green, blue; an image is turned upright and stretched to the square by antialiased "
        "bilinear resampling, not cropped. The file's metadata says it too."
    )
    other = commands.add_parser("export", help=about, description=f"{about.capitalize()}. {more}")
    other.add_argument("--model", metavar="WHERE", help=MODEL)
    other.add_argument("--out", type=Path, required=True, metavar="FILE", help="made anew")
    other.set_defaults(run=export)
    return whole


def search(options: argparse.Namespace) -> None:
    """`rhs search`."""
    from rhs.inference.contact_sheet import write_sheet
    from rhs.inference.embed_folder import printable
    from rhs.inference.image_embedder import ImageEmbedder
    from rhs.inference.index import open_index
    from rhs.inference.locate_model import locate_model

    if options.k < 1:
        raise UserError(f"--k is {options.k}; the number of neighbors must be at least 1.")
    _writable(options.out, ".html", SHEET)
    place = locate_model(options.model)
    folder = options.index or place.index
    if folder is None:
        raise UserError(
            f"{place.model} has no index: run the evaluate stage, or give one with --index."
        )
    index, model = open_index(folder, place.model), ImageEmbedder(place.model)
    names = [printable(str(path)) for path in options.images]
    queries = [_prepared(path, model) for path in options.images]
    found = index.search(model.embed([model.pixels(query) for query in queries]), options.k)
    flat = index.facts["kind"] == "flat"
    measure = "cosine similarity" if flat else "estimated cosine similarity"
    about = f"{len(index):,} images, {index.facts['kind']} index; {measure}"
    drawn = [(name, query.data) for name, query in zip(names, queries, strict=True)]
    write_sheet(options.out, drawn, found, about)  # before a reader of the lines may leave
    for name, hits in zip(names, found, strict=True):
        width = max((len(hit.item.class_name) for hit in hits), default=0)
        print(name)
        for rank, hit in enumerate(hits, 1):
            line = f"{rank:>4}  {hit.similarity:6.3f}  {hit.item.class_name:<{width}}"
            print(printable(f"{line}  {hit.item.name}"))
        if len(hits) < min(options.k, len(index)):
            print(f"      found {len(hits)} of {options.k}: the index is approximate")
    print(f"{about}; drawn in {options.out}")
    if options.open:
        _show(options.out)


def _prepared(path: Path, model: ImageEmbedder) -> Prepared:
    from rhs.inference.embed_folder import prepared, printable
    from rhs.preprocessing.prepare_image import BadImage

    if not path.exists():
        raise UserError(f"{printable(str(path))} does not exist; an image file is needed.")

    try:
        return prepared(path, model)
    except BadImage as bad:
        raise UserError(f"{printable(str(path))} cannot be embedded: {bad}.") from bad


def embed(options: argparse.Namespace) -> None:
    """`rhs embed`."""
    from rhs.data.embedding_files import write_embedded
    from rhs.inference.embed_folder import embed_folder
    from rhs.inference.image_embedder import ImageEmbedder
    from rhs.inference.locate_model import locate_model
    from rhs.models.embedder import model_digest

    _writable(options.out, ".parquet", OURS)
    model = locate_model(options.model).model
    embedded, refused = embed_folder(options.folder, ImageEmbedder(model), model_digest(model))
    write_embedded(options.out, embedded)
    classes = len(set(embedded.class_names) - {""})
    print(
        f"{options.out}: {len(embedded):,} images of {classes:,} classes, "
        f"{embedded.embeddings.shape[1]} dimensions"
    )
    if refused:
        print(f"{len(refused):,} files were left out:", file=sys.stderr)
        for name, reason in refused:
            print(f"  {name}: {reason}", file=sys.stderr)


def export(options: argparse.Namespace) -> None:
    """`rhs export`."""
    from rhs.inference.locate_model import locate_model
    from rhs.inference.onnx_export import export_onnx
    from rhs.models.embedder import load_config

    _writable(options.out, ".onnx", OURS)
    model = locate_model(options.model).model
    worst = export_onnx(model, options.out)
    config = load_config(model)
    size = config["image_size"]
    print(
        f"{options.out}: uint8 images [B, 3, {size}, {size}] -> unit embeddings "
        f"[B, {config['dim']}]; differs from the model by {worst:.1e} at most"
    )


def _writable(out: Path, suffix: str, mark: bytes) -> None:
    """Before the work: raises UserError unless such a file may come to be at `out`.

    Args:
        mark: what a file holds that such a command wrote.
    """
    if out.suffix.lower() != suffix:  # what is there already may be somebody's photograph
        raise UserError(f"--out is {out}; its name must end in {suffix}.")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out is {out}; it must be a file in a folder that exists.")
    refuse_target("--out", out)
    if os.path.lexists(out) and not _holds(out, mark):
        raise UserError(
            f"--out is {out}, which is there already and was not written by this command: choose "
            "another name."
        )
    try:
        with NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}."):
            pass
    except OSError as error:
        raise UserError(
            f"--out is {out}; nothing can be written there: {error.strerror}."
        ) from error


def _holds(file: Path, mark: bytes) -> bool:
    """Whether a file has these bytes, or none at all."""
    if not file.is_file() or not file.stat().st_size:
        return file.is_file()
    with file.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        return data.rfind(mark) >= 0


def _show(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        print(f"no browser was found: open {path}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; a user's mistake is one sentence and status 1."""
    try:
        with interruptible("interrupted"):
            options = parser().parse_args(arguments)
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="replace")  # names may have what a terminal has not
            from rhs.stage import PRIVATE

            for name, value in PRIVATE.items():
                os.environ.setdefault(name, value)
            options.run(options)
            sys.stdout.flush()  # here, where a reader who left is understood
    except KeyboardInterrupt as interrupt:
        return status_of(interrupt, "interrupted")
    except BrokenPipeError:  # who reads the lines has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # anything that is not the user's to mend keeps its traceback
        from rhs.explain import explain

        sentence = explain(error)
        if sentence is None and isinstance(error, OSError) and error.filename:
            sentence = f"{error.filename}: {error.strerror}."
        if sentence is None:
            raise
        print(f"error: {on_one_line(sentence)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
