"""Keeping freed memory: where glibc is, and nothing elsewhere."""

import ctypes
from types import SimpleNamespace

import pytest

from rhs import memory


def test_glibc_is_told_to_keep_all(monkeypatch):
    told: dict[int, int] = {}
    library = SimpleNamespace(mallopt=lambda name, value: told.update({name: value}) or 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    memory.keep_freed_memory()
    assert told == {-4: 0, -1: 2**31 - 1}  # M_MMAP_MAX, M_TRIM_THRESHOLD


@pytest.mark.parametrize("error", [OSError("musl"), TypeError("Windows"), None])
def test_another_c_library_is_silently_fine(monkeypatch, error, capfd):
    def library(name):
        if error is not None:
            raise error
        return object()  # has no mallopt, like that of macOS

    monkeypatch.setattr(ctypes, "CDLL", library)
    memory.keep_freed_memory()
    assert capfd.readouterr() == ("", "")


def test_whoever_computes_with_a_network_keeps_its_memory(monkeypatch, tmp_path):
    """Training (and with it searches and studies), embedding workers, search and serving."""
    from rhs.evaluation import ray_embedding
    from rhs.inference import image_embedder
    from rhs.study import cells
    from rhs.training import worker

    class Kept(Exception):
        pass

    def keep():
        raise Kept

    for module, start in (
        (worker, lambda: worker.train_rank(None, tmp_path, None, None, None)),
        (ray_embedding, lambda: ray_embedding.BatchEmbedder({}, None)),
        (image_embedder, lambda: image_embedder.ImageEmbedder(tmp_path)),
        (cells, lambda: cells.try_cell({}, tmp_path, tmp_path, "")),
    ):
        monkeypatch.setattr(module, "keep_freed_memory", keep)
        with pytest.raises(Kept):
            start()
