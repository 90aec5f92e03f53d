"""The command `rhs`: what it prints, what it leaves, and its sentences."""

import importlib.util
import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from folders import files, make_images
from PIL import Image
from searchable import make_searchable, save_model
from tiny_project import class_image

from rhs.cli import main
from rhs.data.embedding_files import read_embedded
from rhs.data.shards import ShardedImages
from rhs.inference.index import Index
from rhs.models.embedder import model_digest


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_searchable(tmp_path_factory.mktemp("cli"))


@pytest.fixture
def project(whole, tmp_path, monkeypatch):
    """A project with a model, its index, and an image `query.png` of the test."""
    here = shutil.copytree(whole.root, tmp_path / "project")
    monkeypatch.chdir(here)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (here / "query.png").write_bytes(ShardedImages(whole.shards, "test").bytes(5))
    return here


@pytest.fixture
def refused(project, capsys):
    """Runs a command that must fail with one sentence and leave no file; returns the sentence."""

    def run(*words: str) -> str:
        before = files(project)
        assert main(words) == 1
        out, said = capsys.readouterr()
        assert out == ""
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert files(project) == before
        return said

    return run


def test_search_prints_and_draws_the_nearest(project, capsys):
    Image.open("query.png").save("again.bmp")
    assert main(["search", "query.png", "again.bmp", "-k", "3"]) == 0
    out, err = capsys.readouterr()
    first, *hits, second = out.splitlines()[:5]
    assert (first, second, err) == ("query.png", "again.bmp", "")
    assert hits[0] == "   1   1.000  class003  class003/1.png"
    similarities = [float(line.split()[1]) for line in hits]
    assert similarities == sorted(similarities, reverse=True)
    assert out.splitlines()[5] == hits[0]
    assert out.splitlines()[-1] == "17 images, flat index; cosine similarity; drawn in search.html"
    page = (project / "search.html").read_text()
    assert page.count("<section>") == 2
    assert page.count("<figure") == 8
    assert "17 images, flat index; cosine similarity" in page


def test_an_approximate_index_says_so_and_what_it_did_not_find(project, monkeypatch, capsys):
    usual = Index.search
    monkeypatch.setattr(Index, "search", lambda *asked: [row[:2] for row in usual(*asked)])
    other = make_searchable(project.parent / "other", kind="hnsw")
    assert main(["search", "query.png", "-k=4", f"--model={other.model}"]) == 0
    *_, short, about = capsys.readouterr().out.splitlines()
    assert short == "      found 2 of 4: the index is approximate"
    assert about.startswith("17 images, hnsw index; estimated cosine similarity; drawn in")


def test_search_in_another_index_with_another_model(project, capsys):
    other = make_searchable(project.parent / "other", seed=5)
    words = ["search", "query.png", "--k=100", "--out=drawn.html", f"--model={other.model}"]
    assert main(words) == 0
    assert capsys.readouterr().out.count("class00") == 2 * 17
    assert (project / "drawn.html").exists()
    assert main([*words, f"--index={project}/index/tiny"]) == 1
    assert "was made by another model" in capsys.readouterr().err


def test_open_shows_the_sheet(project, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("webbrowser.open", lambda address: shown.append(address) or len(shown) < 2)
    assert main(["search", "query.png", "--open"]) == 0
    assert shown == [(project / "search.html").as_uri()]
    assert capsys.readouterr().err == ""
    assert main(["search", "query.png", "--open"]) == 0
    assert capsys.readouterr().err == "no browser was found: open search.html\n"


def test_mistakes_in_a_search(refused, project):
    (project / "junk.jpg").write_bytes(b"junk")
    save_model(project.parent / "lonely/model", 1)
    assert "arguments are required: IMAGE; see `rhs search --help`" in refused("search")
    assert "none.png does not exist; an image file" in refused("search", "none.png")
    os.mkfifo(project / "pipe.png")
    assert "pipe.png cannot be embedded: not a regular file" in refused("search", "pipe.png")
    assert "junk.jpg cannot be embedded: not an image." in refused("search", "junk.jpg")
    assert "--k is 0; the number" in refused("search", "query.png", "--k=0")
    assert "invalid int value: 'many'" in refused("search", "query.png", "--k=many")
    assert "No model is called 'nobody'; accepted: a folder" in refused(
        "search", "query.png", "--model=nobody"
    )
    assert "lonely/model has no index: run the evaluate stage, or give" in refused(
        "search", "query.png", f"--model={project.parent}/lonely"
    )
    assert "query.png holds no index" in refused("search", "query.png", "--index=query.png")
    assert "--out is nowhere/a.html; it must be a file in a folder that exists" in refused(
        "search", "query.png", "--out=nowhere/a.html"
    )
    assert "--out is models; its name must end in .html" in refused(
        "search", "query.png", "--out=models"
    )
    assert "--out is query.png; its name must end in .html" in refused(
        "search", "query.png", "--out=query.png"
    )


def test_mistakes_in_the_command(refused):
    assert "required: COMMAND; see `rhs --help`" in refused()
    assert "invalid choice: 'find'" in refused("find")
    assert "required: --out; see `rhs embed --help`" in refused("embed", "models")
    assert "unrecognized arguments: --fast" in refused("export", "--out=a.onnx", "--fast")


def test_embed_writes_a_table_and_names_what_it_left_out(project, capsys):
    make_images(project / "photos", [2, 3], class1=b"junk")
    odd = project / "photos/a\x1b[31m.png"
    odd.write_bytes(b"junk")
    assert main(["embed", "photos", "--out=photos.parquet"]) == 0
    out, err = capsys.readouterr()
    assert out == "photos.parquet: 4 images of 2 classes, 6 dimensions\n"
    assert "2 files were left out:\n  a\ufffd[31m.png: not an image\n  class1/0.png: not" in err
    embedded = read_embedded(project / "photos.parquet")
    assert embedded.names == ["class0/0.png", "class0/1.png", "class1/1.png", "class1/2.png"]
    assert embedded.labels.tolist() == [0, 0, 1, 1]
    assert embedded.model == model_digest(project / "models/tiny")
    np.testing.assert_allclose(np.linalg.norm(embedded.embeddings, axis=1), 1, atol=1e-6)


def test_what_embed_and_search_make_of_an_image_is_the_same(project, whole, capsys):
    """And the same as the pipeline's, up to what a JPEG that stays as it is allows: all of it."""
    buffer = io.BytesIO()
    Image.fromarray(class_image(1, 3)).save(buffer, "JPEG")
    (project / "photos/a").mkdir(parents=True)
    (project / "photos/a/1.jpg").write_bytes(buffer.getvalue())
    shutil.copy(project / "query.png", project / "photos/a/2.png")
    assert main(["embed", "photos", "--out=p.parquet"]) == 0
    jpeg, query = read_embedded(project / "p.parquet").embeddings
    np.testing.assert_allclose(query, whole.embedded["test"].embeddings[5], atol=1e-6)
    assert main(["search", "photos/a/1.jpg", "--k=17"]) == 0
    printed = capsys.readouterr().out.splitlines()[2:-1]
    names = [name for split in ("train", "test") for name in whole.embedded[split].names]
    x_ND = np.concatenate([whole.embedded[split].embeddings for split in ("train", "test")])
    expected = dict(zip(names, x_ND @ jpeg, strict=True))
    assert len(printed) == 17
    for line in printed:
        _, similarity, _, name = line.split()
        assert float(similarity) == pytest.approx(expected[name], abs=6e-4)


def test_mistakes_in_embed(refused, project):
    assert "--out is /proc/a.parquet; nothing can be written there: " in refused(
        "embed", "models", "--out=/proc/a.parquet"
    )
    assert "none is not a folder" in refused("embed", "none", "--out=a.parquet")
    assert "holds no image that can be embedded: config.json is refused" in refused(
        "embed", "models/tiny", "--out=a.parquet"
    )


@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="no onnxscript")
def test_export_says_what_it_wrote(project, capsys):
    assert main(["export", "--out=model.onnx"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("model.onnx: uint8 images [B, 3, 16, 16] -> unit embeddings [B, 6]; ")
    assert (project / "model.onnx").stat().st_size > 1000


def test_an_error_that_is_not_the_users_keeps_its_traceback(project, monkeypatch):
    def broken(_):
        raise RuntimeError("ours")

    monkeypatch.setattr("rhs.inference.locate_model.locate_model", broken)
    with pytest.raises(RuntimeError, match="ours"):
        main(["export", "--out=model.onnx"])

    def full(_):
        raise OSError(28, "No space left on device", "there")

    monkeypatch.setattr("rhs.inference.locate_model.locate_model", full)
    assert main(["export", "--out=model.onnx"]) == 1


def test_interrupted(project, monkeypatch, capsys):
    def stopped(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rhs.inference.locate_model.locate_model", stopped)
    assert main(["export", "--out=model.onnx"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_help_is_quick_and_complete(capsys):
    names = "{'torch', 'faiss', 'numpy'} & {*sys.modules}"
    command = [sys.executable, "-c", f"import sys, rhs.cli; rhs.cli.parser(); print({names})"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    for command in ([], ["search"], ["embed"], ["export"]):
        with pytest.raises(SystemExit) as left:
            main([*command, "--help"])
        assert left.value.code == 0
        assert " ".join(["usage: rhs", *command]) in capsys.readouterr().out


def test_a_reader_who_leaves_early_ends_it_quietly(project):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "rhs.cli", "search", "query.png"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (project / "search.html").exists()


def test_a_name_that_the_terminal_cannot_show(project, monkeypatch):
    shutil.copy("query.png", "größe.png")
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    assert main(["search", "größe.png"]) == 0
    assert terminal.buffer.getvalue().startswith(b"gr??e.png\n")


def test_a_sentence_has_no_traceback_outside_of_the_tests(project):
    command = [sys.executable, "-m", "rhs.cli", "search", "none.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: none.png does not exist; an image file is needed.\n"


@pytest.mark.parametrize("command", ["search", "embed", "export"])
def test_files_that_the_command_did_not_write_stay(refused, project, command):
    kind = {"search": "html", "embed": "parquet", "export": "onnx"}[command]
    what = {"search": ["query.png"], "embed": ["."], "export": []}[command]
    mine, link = project / f"mine.{kind}", project / f"link.{kind}"
    mine.write_text("<title>Mine</title>")
    link.symlink_to("nowhere")
    for out in (mine, link):
        said = refused(command, *what, f"--out={out}")
        assert f"--out is {out}, which is there already and was not written by this command" in said
    assert mine.read_text() == "<title>Mine</title>"
    said = refused(command, *what, f"--out=models/a.{kind}")
    assert f"--out is models/a.{kind}, in models, where stages replace what lies there" in said


def test_what_the_command_wrote_is_replaced(project):
    for words in (
        ["search", "query.png", "--out=a.html"],
        ["embed", ".", "--out=a.parquet"],
        ["export", "--out=a.onnx"],
    ):
        assert main(words) == 0
        assert main(words) == 0
    (project / "a.html").write_text("")
    assert main(["search", "query.png", "--out=a.html"]) == 0
