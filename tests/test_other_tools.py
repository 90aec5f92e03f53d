"""What a run leaves, opened by the tools that it is for."""

import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from cloned_project import DVC, run
from mlflow import MlflowClient

from rhs.config.compose import flatten
from rhs.data.embedding_files import read_split
from rhs.report.dataset.duplicate_groups import COLUMNS
from rhs.tracking.provenance import shorten

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")  # within MLflow
VOID = {"meta", "link", "img", "br", "hr", "input", "col", "source", "wbr", "path", "use"}


@pytest.fixture(scope="module")
def project(whole_run) -> Path:
    return whole_run[0]


@pytest.fixture(scope="module")
def metrics(project) -> dict:
    """metrics.json, which holds numbers only: no list, no NaN."""

    def none(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((project / "metrics.json").read_text(), parse_constant=none)


def test_dvc_shows_every_number_of_metrics_json(project, metrics):
    shown = json.loads(run([*DVC, "metrics", "show", "--json"], project).stdout)
    (told,) = shown.values()
    assert told["data"]["metrics.json"]["data"] == metrics
    assert metrics["test"]["intervals"]["recall@1"].keys() == {"low", "high"}
    changed = json.loads(run([*DVC, "metrics", "diff", "--json"], project).stdout)
    assert changed["metrics.json"].keys() == flatten(metrics).keys()


def test_dvc_draws_history_csv(project, tmp_path):
    said = run([*DVC, "plots", "show", "--json", "-o", str(tmp_path)], project).stdout
    drawn = json.loads(said[said.index("{") :])["data"]
    assert len(drawn) == 3
    history = pd.read_csv(project / "models/folder/history.csv")
    for (title, (plot,)), column in zip(
        sorted(drawn.items()), ("loss", "val_map@r", "val_recall@1"), strict=True
    ):
        points = plot["content"]["data"]["values"]
        assert [float(point[column]) for point in points] == history[column].tolist(), title


def test_pandas_reads_history_csv(project):
    history = pd.read_csv(project / "models/folder/history.csv")
    assert history["epoch"].tolist() == [1, 2]
    assert {"loss", "val_recall@1", "val_map@r"} <= set(history)
    assert all(kind.kind in "if" for kind in history.dtypes), "a column of numbers each"
    assert not history[["loss", "val_recall@1", "val_map@r"]].isna().any(axis=None)


def test_pandas_reads_embeddings_and_the_items_of_the_index(project):
    frame = pd.read_parquet(project / "embeddings/folder/test-00000.parquet")
    read = read_split(project / "embeddings/folder", "test")
    assert np.array_equal(np.stack(frame["embedding"]), read.embeddings)
    assert np.stack(frame["embedding"]).dtype == np.float32
    assert frame["name"].tolist() == read.names
    assert frame["class_name"].tolist() == read.class_names
    assert frame["label"].dtype == np.int64
    assert frame["query"].isna().all()
    assert len(pd.read_parquet(project / "index/folder/items.parquet")) == 48
    shard = pd.read_parquet(project / "data/shards/folder/test-00000.parquet")
    assert shard["name"].tolist() == read.names
    assert {type(image) for image in shard["image"]} == {bytes}


def test_pandas_reads_every_list_for_people(project):
    """Copies, and images that were refused, kept or passed over; each with a line of names."""
    files = [*project.glob("data*/**/*.csv"), *project.glob("models/**/*.csv")]
    assert {"duplicates.csv", "history.csv"} <= {file.name for file in files}
    for file in files:
        heads = file.read_text(encoding="utf-8").splitlines()[0]
        assert list(pd.read_csv(file)) == heads.split(","), file


def test_pandas_reads_the_list_of_duplicates(project):
    frame = pd.read_csv(project / "data_report/duplicates.csv")
    assert tuple(frame) == COLUMNS


@pytest.fixture(scope="module")
def kept(project):
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("folder").experiment_id])
    return client, found


def test_mlflow_gives_every_parameter_back(project, kept):
    _, found = kept
    params = yaml.safe_load((project / "params.yaml").read_text())
    expected = {name: shorten(value) for name, value in flatten(params).items()}
    assert found.data.params == expected


def test_mlflow_gives_every_score_back(kept, metrics):
    _, found = kept
    for split, scores in metrics.items():
        for name, value in scores.items():
            if name in ("queries", "left_out", "intervals"):
                continue
            told = f"{split}/{name.replace('@', '_at_')}"
            assert found.data.metrics[told] == value
            if ends := scores["intervals"].get(name):
                for end, number in ends.items():
                    assert found.data.metrics[f"{told}_{end}"] == number


def test_mlflow_knows_the_data_and_serves_the_model(project, kept):
    client, found = kept
    ((data,),) = ([each.dataset for each in found.inputs.dataset_inputs],)
    manifest = json.loads((project / "data/shards/folder/manifest.json").read_text())
    assert (data.name, data.digest) == ("folder", manifest["digest"][:36])
    version = client.get_model_version_by_alias("rhs-folder", "champion")
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    model = mlflow.models.Model.load(version.source)
    assert [column.type.name for column in model.signature.inputs] == ["binary"]
    assert model.signature.outputs.inputs[0].shape == (-1, 16)
    place = client.get_logged_model(version.source.removeprefix("models:/")).artifact_location
    payload = model.get_serving_input(unquote(urlparse(place).path))
    served = mlflow.models.validate_serving_input(version.source, payload)
    assert served.shape == (1, 16)
    expected = read_split(project / "embeddings/folder", "test").embeddings[:1]
    np.testing.assert_allclose(served, expected, atol=1e-5)


class Balanced(HTMLParser):
    """Refuses a page with a tag that is left open, an id twice, or an attribute twice."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag, attrs):
        self._check(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._check(tag, attrs)

    def _check(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        assert tag != "img" or "alt" in names
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open, tag
            assert self.open.pop() == tag, self.getpos()


@pytest.mark.parametrize(
    "page",
    [
        "report/index.html",
        "report/failures.html",
        "report/explorer.html",
        "data_report/index.html",
    ],
)
def test_pages_are_whole_html(project, page):
    text = (project / page).read_text(encoding="utf-8")
    assert text.lstrip().lower().startswith("<!doctype html>")
    Balanced(text)
