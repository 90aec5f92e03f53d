"""A saved model on encoded images: what the pipeline makes of them."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from searchable import CONFIG, save_model

from rhs.data.decode import decode
from rhs.data.shards import ShardedImages
from rhs.data.transforms import view
from rhs.errors import UserError
from rhs.inference.image_embedder import ImageEmbedder
from rhs.models.embedder import load_embedder
from rhs.preprocessing.prepare_image import BadImage, prepare_image


def odd_images() -> dict[str, bytes]:
    """One scene in several formats, among them one that is stored on its side."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    scene = Image.fromarray(pixels).resize((80, 60), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = {
        "on its side": ("JPEG", scene.transpose(Image.Transpose.ROTATE_90), {"exif": turned}),
        "upright": ("JPEG", scene, {}),
        "transparent": ("WEBP", scene.convert("RGBA"), {}),
        "palette": ("GIF", scene.quantize(16), {}),
        "gray": ("PNG", scene.convert("L"), {}),
        "print": ("TIFF", scene.convert("CMYK"), {}),
    }
    made = {}
    for name, (kind, image, options) in kinds.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        made[name] = buffer.getvalue()
    return made


def test_any_format_is_embedded_as_the_pipeline_would(made):
    model, images = ImageEmbedder(made.model), odd_images()
    x_ND = model.embed([model.pixels(model.prepare(data)) for data in images.values()])
    embedder = load_embedder(made.model)
    for row, data in zip(x_ND, images.values(), strict=True):
        seen = view(decode(prepare_image(data, short_side=24, quality=95).data), 16)
        (alone,) = embedder.embed(torch.from_numpy(seen).permute(2, 0, 1)[None]).numpy()
        np.testing.assert_allclose(row, alone, atol=1e-6)
    assert x_ND.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(x_ND, axis=1), 1, atol=1e-6)
    apart = np.linalg.norm(x_ND - x_ND[1], axis=1)
    assert apart[0] < 0.2 * apart[4], "turned upright, and not gray"


def test_images_of_shards_embed_to_what_is_kept_of_them(made, monkeypatch):
    """In batches of any size, also none."""
    monkeypatch.setattr("rhs.inference.image_embedder.BATCH", 3)
    model, images = ImageEmbedder(made.model), ShardedImages(made.shards, "test")
    pixels = [view(images.decode(i), 16) for i in range(8)]
    np.testing.assert_allclose(model.embed(pixels), made.embedded["test"].embeddings, atol=1e-6)
    assert model.embed([]).shape == (0, 6)


def test_what_is_no_image_is_said(made):
    with pytest.raises(BadImage, match="not an image"):
        ImageEmbedder(made.model).prepare(b"junk")


def test_models_that_are_not_whole_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        ImageEmbedder(tmp_path)
    folder = save_model(
        tmp_path / "silent", 0, {k: v for k, v in CONFIG.items() if k != "preprocess"}
    )
    with pytest.raises(UserError, match="does not say how images are preprocessed"):
        ImageEmbedder(folder)
    folder = save_model(tmp_path / "cut", 0)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"The model in .*cut is damaged \("):
        ImageEmbedder(folder)
    wrong = [CONFIG | {"dim": "16"}, CONFIG | {"image_size": 0}, CONFIG | {"std": [0.5, "a", 1]}]
    texts = ["{", "[]", '{"trunk": 3}', json.dumps(dict.fromkeys(CONFIG, 1))]
    for text in [*texts, *map(json.dumps, wrong)]:
        folder = save_model(tmp_path / "odd", 0)
        (folder / "config.json").write_text(text)
        with pytest.raises(UserError, match=r"config.json is damaged, or describes no model"):
            ImageEmbedder(folder)
    folder = save_model(tmp_path / "wide", 0)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"dim": 7}))
    with pytest.raises(UserError, match=r"The model in .*wide is damaged \("):
        ImageEmbedder(folder)
