"""What callers give to the measuring functions, as arrays; or the sentence why it cannot be used.

Arrays, tensors of any device and type, lists and columns of tables are taken alike.
"""

from __future__ import annotations

import operator
from numbers import Integral
from typing import Any

import numpy as np
import torch

from rhs.errors import UserError, check_number

SEED_LIMIT = 2**31 - 1  # of faiss


def matrix(embeddings_ND: Any, least: int = 2) -> np.ndarray:
    """Embeddings as an array of real numbers [N, D]; not copied where it is one.

    Raises:
        UserError: no matrix, fewer than `least` rows, or what are no real numbers.
    """
    array_ND = _array("Embeddings", embeddings_ND)
    if array_ND.ndim != 2 or 0 in array_ND.shape:
        raise UserError(f"Embeddings have shape {array_ND.shape}; a matrix [N, D] is needed.")
    if len(array_ND) < least:
        raise UserError(
            f"There is only {len(array_ND)} embedding; retrieval needs at least {least}."
        )
    if array_ND.dtype.kind in "fiub":
        return array_ND
    try:
        if array_ND.dtype.kind in "OV":  # objects, or a type that NumPy knows by an extension
            return array_ND.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f"Embeddings are of type {array_ND.dtype}; real numbers are needed.")


def classes(labels_N: Any, count: int) -> np.ndarray:
    """Labels as int64 [N], numbered from 0 in the order of the labels.

    Raises:
        UserError: not one for each of `count` embeddings, or no whole numbers or names.
    """
    array_N = _array("Labels", labels_N)
    if array_N.shape != (count,):
        raise UserError(
            f"Labels have shape {array_N.shape} for {count} embeddings; "
            f"one label per embedding, shape ({count},), is needed."
        )
    kind = array_N.dtype.kind
    if kind == "f":
        wrong = np.flatnonzero(~np.isfinite(array_N) | (array_N != np.round(array_N)))
        if len(wrong):
            raise _no_label(wrong[0], array_N[wrong[0]])
    elif kind in "OT" or (kind == "U" and isinstance(labels_N, (list, tuple))):
        # A list of names and NaN would have become names all.
        given = labels_N if kind == "U" else array_N.tolist()
        array_N = np.array([_label(i, label) for i, label in enumerate(given)], dtype=object)
    elif kind not in "biuSU":
        raise UserError(f"Labels are of type {array_N.dtype}; whole numbers or names are needed.")
    try:
        return np.unique(array_N, return_inverse=True)[1].astype(np.int64)
    except TypeError:
        raise UserError("Labels are names and numbers; all must be of one kind.") from None


def _label(row: int, label: Any) -> Any:
    if isinstance(label, str):
        return str(label)
    if isinstance(label, bytes):
        return label
    if isinstance(label, Integral) or (isinstance(label, float) and label.is_integer()):
        return int(label)
    raise _no_label(row, label)


def _no_label(row: int, label: Any) -> UserError:
    return UserError(f"Label row {row} is {label}; a whole number or a name is needed.")


def mask(queries_N: Any, count: int) -> np.ndarray | None:
    """Which items are queries as bool [N]; None stays None.

    Raises:
        UserError: no bool for each of `count` embeddings.
    """
    if queries_N is None:
        return None
    array_N = _array("Queries", queries_N)
    if array_N.dtype == object and all(isinstance(v, (bool, np.bool_)) for v in array_N.flat):
        array_N = array_N.astype(bool)
    if array_N.shape != (count,) or array_N.dtype != bool:
        raise UserError(
            f"Queries have shape {array_N.shape} and type {array_N.dtype}; one bool for each "
            f"of the {count} embeddings is needed."
        )
    return array_N


def depths(ks: Any) -> list[int]:
    """The values of K of Recall@K, each once.

    Raises:
        UserError: none, or one that is no whole number of at least 1.
    """
    try:
        given = [] if isinstance(ks, (str, bytes)) else list(ks)
    except TypeError:
        given = []
    if not given:
        raise UserError(f"ks is {ks!r}; it must be a list of whole numbers, each at least 1.")
    return list(dict.fromkeys(whole("K of Recall@K", k, least=1) for k in given))


def whole(name: str, value: Any, least: int, most: float = float("inf")) -> int:
    """The value as an int.

    Raises:
        UserError: it is no whole number (True is none), or out of range.
    """
    try:
        if not isinstance(value, (bool, np.bool_)):
            value = operator.index(value)
    except TypeError:
        pass
    check_number(name, value, least=least, most=most, whole=True)
    return value


def processor(device: Any) -> torch.device:
    """The device of that name; None: the GPU where there is one.

    Raises:
        UserError: it is not there, or of another kind.
    """
    there = torch.cuda.is_available()
    if device is None:
        return torch.device("cuda" if there else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    if found is not None and found.type == "cpu":
        return found
    if found is not None and found.type == "cuda" and (found.index or 0) < _gpus():
        return found
    raise UserError(
        f"device is {str(device)!r}; it must be 'cpu' or 'cuda' ({_gpus()} GPUs are here), or None."
    )


def _gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _array(what: str, given: Any) -> np.ndarray:
    try:
        if isinstance(given, torch.Tensor):
            return _of_tensor(given)
        if isinstance(given, (list, tuple)) and any(isinstance(v, torch.Tensor) for v in given):
            return np.asarray([_of_tensor(v) if isinstance(v, torch.Tensor) else v for v in given])
        if np.ma.is_masked(given):
            raise ValueError("some values are masked")
        return np.asarray(given)
    # Of other libraries too: whatever cannot become an array says so in its own way.
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{what} cannot be read as an array ({why}).") from error


def _of_tensor(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.is_floating_point() and tensor.itemsize < 4:
        tensor = tensor.float()  # NumPy has no bfloat16
    return tensor.cpu().resolve_conj().resolve_neg().numpy()
