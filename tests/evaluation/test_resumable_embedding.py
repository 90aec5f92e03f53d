"""No embedding is made twice, and each is of its image."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from folders import files
from omegaconf import OmegaConf
from tiny_project import ROOT, composed, small_model_config, small_params

from rhs.data.embedding_files import read_files
from rhs.data.shards import ShardedImages, load_manifest
from rhs.data.transforms import view
from rhs.errors import UserError
from rhs.evaluation import ray_embedding, resumable_embedding
from rhs.models.embedder import build_embedder, model_digest, save_embedder

SPLITS = ["val", "test", "train"]


class Ended(Exception):
    """Stands for whatever ends the process."""


def straight(shards: Path, split: str, model) -> np.ndarray:
    """Embeddings of a split without Ray, shards or batches."""
    images = ShardedImages(shards, split)
    pixels = np.stack([view(images.decode(i), model.image_size) for i in range(len(images))])
    return model.embed(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()


def test_after_it_was_ended_only_what_is_missing_is_embedded(
    ray_cluster, shards, model, work, tmp_path, monkeypatch, capsys
):
    params = small_params("evaluate.batch_size=4", "cluster.num_workers=1")
    asked, real, left = [], ray_embedding.embeddings, [3]

    def spied(params, shards, tasks, model):
        asked.append([task.file for task in tasks])
        return real(params, shards, tasks, model)

    def ended(*what):
        left[0] -= 1
        if left[0] < 0:
            raise Ended
        write(*what)

    write = resumable_embedding.write_embedded
    monkeypatch.setattr(ray_embedding, "embeddings", spied)
    with monkeypatch.context() as patch:
        patch.setattr(resumable_embedding, "write_embedded", ended)
        with pytest.raises(Ended):  # the third shard, by the trained network alone
            resumable_embedding.embed(params, shards, SPLITS, model, work)
    assert capsys.readouterr().out == ""
    kept = sorted(path.name for path in work.iterdir())
    assert [name.partition(".")[0] for name in kept] == ["test-00000", "val-00000", "val-00001"]

    first_try = {name: (work / name).read_bytes() for name in kept}
    damaged = work / kept[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    half = ".val-00001.0123456789abcdef.parquet.01234567.tmp"
    (work / half).write_bytes(b"half")
    (work / "val-00001.0123456789abcdef.parquet").write_bytes(b"of another model")
    found = resumable_embedding.embed(params, shards, SPLITS, model, work)
    assert capsys.readouterr().out.splitlines() == [
        f"{damaged} is damaged: its shard is embedded again",
        "embedding 8 of 9 shards, 1 are there",
    ]
    everything = [s["file"] for s in load_manifest(shards)["shards"]]
    order = sorted(everything, key=lambda name: SPLITS.index(name.partition("-")[0]))
    assert asked == [order, [name for name in order if name != "val-00001.parquet"]]
    assert set(work.iterdir()) == {path for paths in found.values() for path in paths}

    for split in SPLITS:
        whole, images = read_files(found[split]), ShardedImages(shards, split)
        assert whole.names == images.names
        assert whole.class_names == [images.class_names[label] for label in images.labels]
        np.testing.assert_array_equal(whole.labels, images.labels)
        assert whole.model == model_digest(model)
        expected = straight(shards, split, build_embedder(small_model_config(), seed=5).eval())
        np.testing.assert_allclose(whole.embeddings, expected, atol=1e-6)
    untrained = straight(shards, "test", build_embedder(small_model_config(), params.seed).eval())
    np.testing.assert_allclose(read_files(found["untrained"]).embeddings, untrained, atol=1e-6)

    # Two of them were made in both tries, beside other shards: bit for bit the same.
    assert {name: (work / name).read_bytes() for name in kept} == first_try


@pytest.mark.slow
def test_a_shard_that_cannot_be_read_is_one_sentence(ray_cluster, shards, model, work, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(shards, broken)
    (broken / "val-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError) as told:
        resumable_embedding.embed(small_params(), broken, ["val"], model, work)
    sentence = (
        rf"{broken}/val-00001\.parquet cannot be read \(.*\): run the preprocess stage again."
    )
    assert re.fullmatch(sentence, str(told.value))


@pytest.mark.parametrize(
    "change", ["evaluate.batch_size=5", "seed=1", "+cluster.resources_per_worker.GPU=1"]
)
def test_embeddings_made_otherwise_are_not_taken(at_hand, shards, model, work, change):
    resumable_embedding.embed(composed(), shards, ["val", "test"], model, work)
    resumable_embedding.embed(composed(change), shards, ["val", "test"], model, work)
    again = [["test-00000.parquet", "test-00001.parquet"]] if "seed" in change else [at_hand[0]]
    assert at_hand[1:] == again  # the seed is the untrained network's


def test_a_shard_that_changed_is_embedded_again(at_hand, shards, model, work, tmp_path):
    resumable_embedding.embed(composed(), shards, SPLITS, model, work)
    changed = shutil.copytree(shards, tmp_path / "changed")
    manifest = load_manifest(changed)
    (one,) = (shard for shard in manifest["shards"] if shard["file"] == "train-00002.parquet")
    one["sha256"] = "0" * 64
    (changed / "manifest.json").write_text(json.dumps(manifest))
    found = resumable_embedding.embed(composed(), changed, SPLITS, model, work)
    assert at_hand[1:] == [["train-00002.parquet"]]
    assert set(work.iterdir()) == {path for paths in found.values() for path in paths}


def test_a_batch_is_of_one_shard(shards):
    """So that its embeddings are the same bits, whichever shards are embedded with it."""
    rows = [{"task": i, "file": f"train-0000{i}.parquet", "untrained": False} for i in (3, 4)]
    tasks = pa.Table.from_pylist(rows, ray_embedding.TASKS)
    made = [table.to_pylist() for table in ray_embedding.read_batches(tasks, str(shards), 4)]
    assert [(row["task"], len(row["images"])) for (row,) in made] == [(3, 4), (3, 3), (4, 2)]
    images = ShardedImages(shards, "train")
    expected = [images.bytes(i) for i in range(21, 30)]
    assert [image for (row,) in made for image in row["images"]] == expected


def test_embeddings_of_another_model_are_not_taken(at_hand, shards, model, work, tmp_path, capsys):
    resumable_embedding.embed(composed(), shards, ["val"], model, work)
    other = shutil.copytree(model, tmp_path / "other")
    config = small_model_config() | {"run": "glyphs-x"}
    save_embedder(other, build_embedder(config, seed=6), config)
    found = resumable_embedding.embed(composed(), shards, ["val"], other, work)
    assert at_hand == [["val-00000.parquet", "val-00001.parquet"]] * 2
    assert set(work.iterdir()) == set(found["val"])


@pytest.mark.parametrize("links", [True, False])
def test_what_is_shown_takes_no_second_place_on_the_disk(
    at_hand, shards, model, work, tmp_path, monkeypatch, links
):
    def refuses(*_):
        raise PermissionError("a file system without links")

    if not links:
        monkeypatch.setattr(os, "link", refuses)
    found = resumable_embedding.embed(composed(), shards, ["val", "test"], model, work)
    resumable_embedding.publish(found, tmp_path / "shown")
    names = {path.name for path in (tmp_path / "shown").iterdir()}
    assert names == {f"{s}-0000{i}.parquet" for s in ("val", "test") for i in range(2)}
    for split in ("val", "test"):
        for i, path in enumerate(found[split]):
            shown = tmp_path / f"shown/{split}-0000{i}.parquet"
            assert shown.samefile(path) == links
            assert shown.read_bytes() == path.read_bytes()


def test_two_at_once_wait_for_each_other(work, capsys):
    code = f"""
from pathlib import Path
from rhs.evaluation.resumable_embedding import work_folder
with work_folder(Path({str(work)!r})) as work:
    (work / "val-00000.0123456789abcdef.parquet").touch()
    print("in", flush=True)
    input()
    assert (work / "val-00000.0123456789abcdef.parquet").exists()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == "in\n"
        threading.Timer(0.5, other.stdin.write, ("\n",)).start()
        threading.Timer(0.6, other.stdin.flush).start()
        with resumable_embedding.work_folder(work):
            assert list(work.iterdir()) == []
    assert other.returncode == 0
    said = "another process is evaluating glyphs-x; waiting for it (its lock: "
    assert capsys.readouterr().out.startswith(said)
    assert not work.exists()


def test_the_work_folder_loses_its_own_files_alone(work):
    with resumable_embedding.work_folder(work):
        for name in ("notes.txt", "val-00000.0123456789abcdef.parquet"):
            (work / name).write_text("x")
    assert [path.name for path in work.iterdir()] == ["notes.txt"]


def stage_script(project: Path, code: str) -> subprocess.CompletedProcess:
    """`python -m pipelines.evaluate` after `code`, in a process of its own."""
    run = "from pipelines.evaluate import main\nfrom rhs.stage import stage\nstage(main)\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": ""}
    return subprocess.run(
        [sys.executable, "-c", code + run],
        cwd=project,
        env=environment,
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )


KILLED = """
import os, signal
from rhs.evaluation import resumable_embedding
write, left = resumable_embedding.write_embedded, [{}]
def dies(path, embedded):
    left[0] -= 1
    if left[0] < 0:
        (path.parent / f".{{path.name}}.0123.tmp").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, embedded)
resumable_embedding.write_embedded = dies
"""


@pytest.mark.slow
def test_killed_twice_it_goes_on(shards, model, project):
    """By SIGKILL, which no process survives, and without DVC."""
    (project / "data/shards").mkdir(parents=True)
    (project / "data/shards/glyphs").symlink_to(shards)
    (project / "models").mkdir()
    (project / "models/glyphs").symlink_to(model)
    (project / "params.yaml").write_text(
        OmegaConf.to_yaml(asdict(small_params("evaluate.batch_size=4")))
    )
    before = files(project)
    straight = stage_script(project, "")
    assert straight.returncode == 0, straight.stderr
    assert "shards" not in straight.stdout
    made = {name: (project / name).read_bytes() for name in files(project) - before}
    assert "metrics.json" in made
    for folder in ("embeddings", "index"):
        shutil.rmtree(project / folder)
    (project / "metrics.json").unlink()

    for writes, said in ((3, ""), (2, "embedding 7 of 9 shards, 2 are there\n")):
        died = stage_script(project, KILLED.format(writes))
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert died.stdout == said
        assert not (project / "embeddings").exists()
    ended = stage_script(project, "")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "embedding 6 of 9 shards, 3 are there\n" + straight.stdout
    assert {name: (project / name).read_bytes() for name in files(project) - before} == made


def test_the_untrained_network_embeds_only_what_is_compared(shards, model, work):
    pieces = resumable_embedding._pieces(small_params(), shards, SPLITS, model, work)
    assert {piece.split for piece in pieces} == set(SPLITS)
    assert {piece.split for piece in pieces if resumable_embedding.UNTRAINED in piece.made} == {
        "test"
    }
