"""Cheap products that say where similarities lie, each with a bound on its error.

A product of whole numbers of eight bits runs several times faster than one in float32 where the
processor has instructions for it (measured 4 x with AVX-512 VNNI). With x = x' + e, the similarity
of x and y differs from that of their rounded x' and y' by at most |e_x| |y'| + |e_y|, and these
lengths are known: the bound is no estimate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch

_ROWS = 8192
_WIDEST = 2048  # dimensions; beyond, the rotation costs more than bytes save


@contextmanager
def full_float32() -> Iterator[None]:
    """Float32 products in float32, whatever the process has chosen for its training."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def fast_bytes(device: torch.device, dim: int) -> bool:
    """Whether products of int8 are both there and fast."""
    if device.type != "cpu" or dim > _WIDEST or not hasattr(torch, "_int_mm"):
        return False
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_vnni") or able.get("amx_int8"))


class Float32:
    """The product in float32 itself."""

    kind = torch.float32  # of products

    def __init__(self, unit_GD: torch.Tensor, order_G: torch.Tensor):
        self.unit_GD, self.order_G = unit_GD, order_G
        self.step = 1.0

    def encode(self, unit_QD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The queries as they are, and no error of their own [Q]."""
        return unit_QD, torch.zeros(len(unit_QD), dtype=torch.float64, device=unit_QD.device)

    def product(self, code_QD: torch.Tensor, rows: slice, room: torch.Tensor) -> torch.Tensor:
        """Similarities [Q, rows], written into `room`."""
        items_RD = self.unit_GD[self.order_G[rows]]
        with full_float32():
            return torch.mm(code_QD, items_RD.T, out=_shaped(room, len(code_QD), len(items_RD)))

    def margin(self, error_Q: torch.Tensor) -> torch.Tensor:
        """How far [Q] a similarity may lie from its product."""
        return error_Q + rounding(self.unit_GD.shape[1])

    def limit(self, value_Q: torch.Tensor) -> torch.Tensor:
        """Products [Q, 1] that are not above it belong to similarities that are not above value."""
        low = value_Q.float()
        return torch.nextafter(low, torch.full_like(low, -math.inf))[:, None]


class Int8:
    """Rows turned by one random rotation, then rounded to whole multiples of one step.

    The rotation changes no similarity, and makes all coordinates alike: without it a few large ones
    would set the step for all.
    """

    kind = torch.int32

    def __init__(self, unit_GD: torch.Tensor, order_G: torch.Tensor):
        dim = unit_GD.shape[1]
        random = torch.Generator().manual_seed(0)
        square = torch.randn(dim, dim, generator=random, dtype=torch.float64)
        self.rotation_DD = torch.linalg.qr(square).Q.float()
        rows = [slice(first, first + _ROWS) for first in range(0, len(unit_GD), _ROWS)]
        largest = max(float(self._turn(unit_GD[some]).abs().max()) for some in rows)
        # Most that float32 may have moved a turned row, however it is summed, and that the rotation
        # itself, as float32, may have changed of a similarity.
        self._turned, self._skewed = 1.01 * dim**1.5 * 2.0**-24, dim**0.5 * 2.0**-22
        self.step = max(largest, 1e-3) / 127  # an item cut short would widen the margin of all
        self.code_GD = torch.empty(unit_GD.shape, dtype=torch.int8)
        error, length = 0.0, 0.0
        for some in rows:
            self.code_GD[some], error_R, length_R = self._round(unit_GD[order_G[some]])
            error, length = max(error, float(error_R.max())), max(length, float(length_R.max()))
        self._error, self._length = error, length  # the largest

    def encode(self, unit_QD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes int8 [Q, D] of queries, and the length of what was rounded away [Q]."""
        code_QD, error_Q, _ = self._round(unit_QD)
        return code_QD, error_Q

    def product(self, code_QD: torch.Tensor, rows: slice, room: torch.Tensor) -> torch.Tensor:
        """Products [Q, rows], written into `room`: `step` squared times them are about the
        similarities."""
        items_RD = self.code_GD[rows]
        out = _shaped(room, len(code_QD), len(items_RD))
        return torch._int_mm(code_QD, items_RD.T, out=out)

    def margin(self, error_Q: torch.Tensor) -> torch.Tensor:
        """How far [Q] a similarity may lie from its product."""
        return self._error + error_Q * self._length + self._skewed

    def limit(self, value_Q: torch.Tensor) -> torch.Tensor:
        """Products [Q, 1] that are not above it belong to similarities that are not above value."""
        most = 2.0**30
        return (value_Q / self.step**2).floor().clamp(-most, most).int()[:, None]

    def _turn(self, unit_RD: torch.Tensor) -> torch.Tensor:
        with full_float32():
            return unit_RD @ self.rotation_DD

    def _round(self, unit_RD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        turned_RD = self._turn(unit_RD)
        code_RD = (turned_RD / self.step).round_().clamp_(-127, 127)
        rounded_RD = code_RD * self.step
        length_R = rounded_RD.norm(dim=1).double() * (1 + 1e-3)
        error_R = (turned_RD - rounded_RD).norm(dim=1).double() * (1 + 1e-3) + self._turned
        return code_RD.to(torch.int8), error_R, length_R


def _shaped(room: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The start of a flat tensor as a matrix: to ask the system for new memory each time would
    double what a product costs."""
    return room[: rows * columns].view(rows, columns)


def rounding(dim: int) -> float:
    """Most that a float32 dot product of two unit rows may be off, however it is summed."""
    return 1.01 * dim * 2.0**-24 + 1e-9


@cache
def _has_faiss() -> bool:
    """It makes no copies of the rows; the library's core does without it."""
    return find_spec("faiss") is not None


def pair_dots(
    x_ND: torch.Tensor, i_P: torch.Tensor, y_MD: torch.Tensor, j_P: torch.Tensor
) -> torch.Tensor:
    """Dot products [P] of x[i] and y[j] in float32, see `rounding`."""
    if x_ND.device.type != "cpu" or not _has_faiss():
        size = 1 + (1 << 24) // x_ND.shape[1]
        steps = zip(i_P.split(size), j_P.split(size), strict=True)
        return torch.cat([(x_ND[i] * y_MD[j]).sum(1) for i, j in steps])
    import faiss

    pointers = [faiss.swig_ptr(a.numpy()) for a in (x_ND, i_P, y_MD, j_P)]
    dots_P = torch.empty(len(i_P))
    faiss.pairwise_indexed_inner_product(  # type: ignore[attr-defined]
        x_ND.shape[1], len(i_P), *pointers, faiss.swig_ptr(dots_P.numpy())
    )
    return dots_P


def exact_dots(
    x_ND: torch.Tensor, i_P: torch.Tensor, y_MD: torch.Tensor, j_P: torch.Tensor
) -> torch.Tensor:
    """The same in float64."""
    size = 1 + (1 << 21) // x_ND.shape[1]
    steps = zip(i_P.split(size), j_P.split(size), strict=True)
    parts = [(x_ND[i].double() * y_MD[j].double()).sum(1) for i, j in steps]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64, device=x_ND.device)
