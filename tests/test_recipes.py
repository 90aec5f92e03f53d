"""The recipes for the published benchmarks: what they compose to, and that they train."""

import math
import re
import shlex
from dataclasses import asdict
from functools import lru_cache
from importlib import import_module

import fake_archives
import pytest
import torch
from fake_archives import Shelf, put
from raw_images import one_piece
from tiny_project import ROOT, composed

from rhs.config.settings import Params
from rhs.data.shards import load_manifest
from rhs.preprocessing import preprocess as preprocessing
from rhs.storage.store import open_store
from rhs.training.hooks import RunHooks
from rhs.training.preflight import check
from rhs.training.worker import train_rank

FILE = ROOT / "docs/recipes.md"
TEXT = FILE.read_text()
BENCHMARKS = ("cub200", "cars196", "sop", "inshop")
TRUNKS = {"googlenet": (227, 512), "resnet50": (224, 512)}
RECIPES = [f"{benchmark}_{trunk}" for benchmark in BENCHMARKS for trunk in TRUNKS]
ROW = re.compile(r"\| `([a-z_0-9]+)` \|.* (?:\[|derived).* \|$")  # of a method
SMALL = (
    "tracking=none",
    "cluster=laptop",
    "cluster.num_workers=1",
    "dataset.validation=0",
    "model.image_size=48",
    "model.trunk.pretrained=false",
    "train.classes=2",
    "train.per_class=2",
    "train.warmup=1",
)


@lru_cache
def params_of(*overrides: str) -> Params:
    return composed(*overrides)


def methods() -> list[str]:
    """Those that the page has expectations of, each once."""
    return sorted({found[1] for line in TEXT.splitlines() if (found := ROW.match(line))})


def combinations() -> list[tuple[str, str]]:
    """Every recipe and every method once at least."""
    count = max(len(RECIPES), len(methods()))
    return [(RECIPES[i % len(RECIPES)], methods()[i % len(methods())]) for i in range(count)]


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("dvc")]


# What they say ---------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_its_benchmark_and_its_trunk(recipe):
    benchmark, trunk = recipe.split("_")
    params = params_of(f"experiment={recipe}", "method=rhs_npair")
    usual = asdict(params_of(f"dataset={benchmark}").dataset)
    assert asdict(params.dataset) == usual | {"augment": asdict(params.dataset.augment)}
    assert params.method["name"] == "rhs_npair"
    assert params.model.trunk["pretrained"] is True
    assert params.model.name.startswith(trunk)
    assert (params.model.image_size, params.model.dim) == TRUNKS[trunk]
    assert params.train.classes * params.train.per_class == 128
    assert params.cluster == params_of("cluster=one_gpu").cluster


def test_every_recipe_is_on_the_page_with_its_command():
    text = " ".join(commands())
    assert all(f"-S experiment={recipe} " in text for recipe in RECIPES)
    files = {path.stem for path in (ROOT / "conf/experiment").glob("*_*.yaml")}
    assert set(RECIPES) <= files


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_page_composes(command):
    words = shlex.split(command)
    assert words[:3] == ["dvc", "exp", "run"]
    assert words[3::2] == ["-S"] * len(words[4::2])
    params = params_of(*words[4::2])
    assert params.train.classes * params.train.per_class % 128 == 0
    assert params.dataset.name in BENCHMARKS


def test_what_is_expected_is_of_methods_that_exist():
    assert len(methods()) > 10
    assert set(methods()) <= {path.stem for path in (ROOT / "conf/method").glob("*.yaml")}


# That they train -------------------------------------------------------------------------------


@pytest.fixture
def prepared_benchmark(project, monkeypatch):
    """Fetches and preprocesses stand-ins in the layout of a benchmark's own files."""

    def run(params: Params):
        name = params.dataset.name
        images, listed = fake_archives.inshop()
        files, counts = {
            "cub200": ({"CUB_200_2011.tgz": fake_archives.cub()}, fake_archives.CUB_COUNTS),
            "cars196": (fake_archives.cars("original"), fake_archives.CAR_COUNTS),
            "sop": (
                {"Stanford_Online_Products.zip": fake_archives.sop()},
                fake_archives.SOP_COUNTS,
            ),
            "inshop": (
                {"img.zip": images, "list_eval_partition.txt": listed},
                fake_archives.INSHOP_COUNTS,
            ),
        }[name]
        for file, content in files.items():
            put(project / "here" / name, file, content)
        module = import_module(f"rhs.datasets.{name}")
        monkeypatch.setattr(module, "EXPECTED", counts)
        monkeypatch.setattr(
            preprocessing, "prepare_on_ray", one_piece
        )  # as through Ray: tests/data
        raw, shards = project / "data/raw" / name, project / "data/shards" / name
        module.fetch(raw, params.dataset.source, Shelf(project / "here"))
        kept = params.dataset.copies_across_classes
        preprocessing.preprocess(raw, shards, validation=0, across_classes=kept)
        return shards

    return run


def two_steps(prepared_benchmark, recipe: str, method: str) -> None:
    """Through check and training, as `pipelines.train` goes; every number must be finite."""
    per_epoch = 2 if recipe.startswith("cars196") else 1  # three classes of two images there
    small = [*SMALL, f"train.epochs={2 // per_epoch}"]
    params = composed(f"experiment={recipe}", f"method={method}", *small)
    shards = prepared_benchmark(params)
    assert load_manifest(shards)["splits"]["test"]["classes"] >= 2
    check(params, shards)
    rows: list[dict] = []
    store = open_store(str(shards.parents[2] / "checkpoints"))
    hooks = RunHooks(report=rows.append, say=print)
    embedder, progress = train_rank(params, shards, store, torch.device("cpu"), hooks)
    assert progress.total(per_epoch) == rows[-1]["step"] == 2
    assert all(math.isfinite(value) for value in rows[-1].values())
    assert all(value.isfinite().all() for value in embedder.state_dict().values())
    assert embedder.head.out_features == 512


def test_two_steps_on_stand_ins(prepared_benchmark):
    two_steps(prepared_benchmark, "cub200_googlenet", "rhs_npair")


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "method"), combinations())
def test_two_steps_of_every_recipe_and_of_every_method(prepared_benchmark, recipe, method):
    two_steps(prepared_benchmark, recipe, method)
