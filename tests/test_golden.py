"""Whole training runs have the losses that are written down in tests/assets/losses/."""

import numpy as np
import pytest
from golden import METHODS, STEPS, WORKERS, computed, made_on, read, text

NEARLY = 1e-5  # on another processor or version of torch; 1e-6 was seen with other instruction sets


@pytest.fixture(scope="module")
def curves(gloo_pool, tmp_path_factory):
    return computed(gloo_pool, tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_written_down(curves, method):
    """To the last digit where they were made. If they are to differ, `make golden` and say why."""
    written, where = read(method)
    rtol = 0 if where == made_on() else NEARLY
    assert written.shape == (STEPS, len(WORKERS))
    np.testing.assert_allclose(curves[method], written, rtol=rtol, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_any_number_of_workers_has_the_same_losses(curves, method):
    one, two = curves[method].T
    np.testing.assert_allclose(two, one, rtol=NEARLY)
    assert len(set(one)) == STEPS  # something is learned


def test_every_bit_of_a_loss_is_written_down(monkeypatch, tmp_path):
    monkeypatch.setattr("golden.FOLDER", tmp_path)
    random = np.random.default_rng(0)
    losses = np.exp(random.normal(0, 20, (1000, 2))).astype(np.float32)
    losses[:, 1] = np.nextafter(losses[:, 0], np.float32(np.inf))
    (tmp_path / "npair.txt").write_text(text("npair", losses, "some processor"))
    again, where = read("npair")
    assert where == "some processor"
    np.testing.assert_array_equal(again, losses)
