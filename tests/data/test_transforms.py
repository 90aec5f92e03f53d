"""Views of an image: seeded crops and flips, and the whole image for evaluation."""

from dataclasses import asdict

import numpy as np
import pytest
from tiny_project import composed

from rhs.data.transforms import Augmentation, view


def picture(height: int = 30, width: int = 40) -> np.ndarray:
    """Red grows to the right, green downwards, blue is even."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    pixels[..., 2] = 77
    return pixels


def views(augmentation: Augmentation, image: np.ndarray, n: int = 60, size: int = 16):
    return [augmentation(image, size, np.random.default_rng(seed)) for seed in range(n)]


def test_one_seed_one_view():
    lively = Augmentation((0.2, 1.0), (0.5, 2.0), flip=True)
    for seed in range(20):
        one, other = (lively(picture(), 16, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one, other)
    assert len({v.tobytes() for v in views(lively, picture())}) == 60


def test_without_settings_it_is_the_evaluation_view():
    for seen in views(Augmentation(), picture(), n=5):
        assert np.array_equal(seen, view(picture(), 16))


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (7, 7), (333, 20)])
def test_any_image_size(shape):
    for seen in views(Augmentation((0.05, 1.0), (0.3, 3.0), True), picture(*shape)):
        assert seen.shape == (16, 16, 3)
        assert seen.dtype == np.uint8
        assert (seen[..., 2] == 77).all()  # no border comes in from outside


def test_the_crop_stays_within_its_bounds():
    """Read back from the gradients of the picture: span of red times span of green is the area."""
    image, size = picture(400, 400), 64
    areas = []
    for seen in views(Augmentation((0.3, 0.6)), image, size=size):
        spans = [float(np.ptp(seen[..., c].astype(float))) / 255 for c in (0, 1)]
        assert spans[0] == pytest.approx(spans[1], abs=0.03)  # the aspect is kept
        areas.append(spans[0] * spans[1])
    assert 0.25 < min(areas) < 0.35
    assert 0.5 < max(areas) < 0.62


def test_a_flip_mirrors_half_of_the_views():
    for flip, low, high in ((True, 15, 45), (False, 0, 0)):
        seen = views(Augmentation((0.5, 1.0), (1.0, 1.0), flip), picture())
        mirrored = sum(v[:, 0, 0].mean() > v[:, -1, 0].mean() for v in seen)
        assert low <= mirrored <= high
        assert all(v[0, :, 1].mean() < v[-1, :, 1].mean() for v in seen)  # never upside down


def test_the_evaluation_view_is_the_whole_image():
    seen = view(picture(300, 400), 32)
    assert seen.shape == (32, 32, 3)
    assert seen[0, 0, 0] < 10
    assert seen[-1, -1, 0] > 245
    own = picture(32, 32)
    assert np.array_equal(view(own, 32), own)


def test_letters_are_never_mirrored():
    settings = asdict(composed("dataset=glyphs").dataset.augment)
    augmentation = Augmentation(**settings)
    assert augmentation.flip is False
    for seen in views(augmentation, picture(48, 48), size=48):
        assert seen[:, 0, 0].mean() < seen[:, -1, 0].mean()


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": (0.8, 0.2)},
        {"scale": (0.0, 1.0)},
        {"scale": (0.5, 1.5)},
        {"ratio": (1.3, 0.7)},
        {"ratio": (0.0, 1.0)},
        {"scale": (0.5,)},
        {"scale": 0.5},
        {"scale": None},
        {"scale": ("a", "b")},
        {"ratio": (float("nan"), 1.0)},
    ],
)
def test_settings_that_make_no_crop(settings):
    with pytest.raises(ValueError, match=r"dataset\.augment\.(scale|ratio) is .*"):
        Augmentation(**settings)


def test_a_gray_image_is_the_same_in_one_channel_as_in_three():
    gray = picture()[..., :1]
    lively = Augmentation((0.2, 1.0), (0.5, 2.0), flip=True, jitter={"brightness": 0.5})
    one, three = (views(lively, image) for image in (gray, gray.repeat(3, axis=2)))
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))
    assert np.array_equal(view(gray, 16), view(gray.repeat(3, axis=2), 16))


def only(**jitter: float) -> Augmentation:
    return Augmentation(jitter=jitter)


def test_brightness_scales_and_contrast_spreads_about_the_mean():
    image = np.random.default_rng(0).integers(60, 120, (16, 16, 3), dtype=np.uint8)
    luma = np.array([0.299, 0.587, 0.114])
    for seen in views(only(brightness=0.5), image, 20):
        factor = seen.mean() / image.mean()
        assert 0.5 <= factor <= 1.5
        assert np.allclose(seen, factor * image.astype(float), atol=1.5)
    factors = []
    for seen in views(only(contrast=0.5), image, 20):
        assert seen.mean(axis=(0, 1)) @ luma == pytest.approx(
            image.mean(axis=(0, 1)) @ luma, abs=0.6
        )
        factors.append(seen[..., 1].std() / image[..., 1].std())
    assert 0.5 < min(factors) < 0.8
    assert 1.2 < max(factors) < 1.5


def test_saturation_and_hue_leave_the_luma():
    image = np.random.default_rng(0).integers(90, 160, (16, 16, 3), dtype=np.uint8)
    luma = np.array([0.299, 0.587, 0.114])
    for jitter in ({"saturation": 0.5}, {"hue": 0.5}):
        changed = 0.0
        for seen in views(only(**jitter), image, 20):
            assert np.allclose(seen @ luma, image @ luma, atol=1.0)
            changed = max(changed, float(np.abs(seen.astype(float) - image).mean()))
        assert changed > 5
    gray = np.full((16, 16, 3), 130, dtype=np.uint8)
    assert all((seen == 130).all() for seen in views(only(saturation=1.0, hue=0.5), gray, 9))


def test_jitter_changes_colors_and_nothing_else():
    """The crops and flips are those of the same seeds without jitter."""
    plain = Augmentation((0.3, 1.0), (0.7, 1.4), flip=True)
    faint = Augmentation((0.3, 1.0), (0.7, 1.4), flip=True, jitter={"brightness": 0.02})
    pairs = zip(views(plain, picture()), views(faint, picture()), strict=True)
    assert all(np.allclose(a, b.astype(int), atol=6) for a, b in pairs)


def test_a_flip_is_a_choice_of_two():
    with pytest.raises(ValueError, match="flip is 'maybe'; accepted: true, false"):
        Augmentation(flip="maybe")


@pytest.mark.parametrize(
    ("jitter", "said"),
    [
        ({"gamma": 0.1}, "has 'gamma'; accepted: brightness"),
        ({"hue": 0.7}, "jitter.hue is 0.7"),
        ({"contrast": -1}, "jitter.contrast is -1"),
        (0.4, "jitter is 0.4; accepted: null"),
    ],
)
def test_jitter_that_cannot_be(jitter, said):
    with pytest.raises(ValueError, match=said):
        Augmentation(jitter=jitter)
