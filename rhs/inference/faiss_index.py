"""Chooses and builds the faiss index, and measures what it finds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rhs.config.schema import read_group
from rhs.config.settings import IndexConfig
from rhs.config.value_checks import unknown
from rhs.errors import UserError
from rhs.metrics.cosine import TIE

DEFAULTS: dict[str, Any] = {
    "splits": ["train", "val", "test"],
    "kind": "auto",
    "flat_up_to": 100_000,
    "hnsw_up_to": 1_000_000,
    "hnsw": {"M": 32, "ef_construction": 100, "ef_search": 128},
    "ivf_pq": {"nlist": None, "nprobe": 32, "m": None},
    "thumbnail": 96,
    "seed": 0,
}
KINDS = ("flat", "hnsw", "ivf_pq")
CODEWORDS = 256  # of a byte
PER_CODEWORD = 39  # images that faiss wants to learn one from
TRAINED_ON = 65_536  # images at most that codewords and 8-bit ranges are learned from
PER_LIST = 64  # images, about, that the center of a list is learned from
CHUNK = 8192  # images added at a time
K = 10  # recall is stated of so many neighbors
SAMPLED = 1000  # queries


def check_index_settings(
    settings: Mapping[str, Any], images: int | None = None, dim: int | None = None
) -> dict[str, Any]:
    """The settings of an index, completed with the defaults of those that are not given.

    Args:
        images, dim: how many vectors of how many dimensions it is to hold, where that is known.

    Raises:
        UserError: one is unknown, out of its range, or impossible for these vectors.
    """
    whole = _completed("index", settings, DEFAULTS)
    for group in ("hnsw", "ivf_pq"):
        whole[group] = _completed(f"index.{group}", whole[group], DEFAULTS[group])
    read_group(IndexConfig, "index", whole)
    if len(set(splits := whole["splits"])) < len(splits):
        raise UserError(f"index.splits is {splits!r}; give each of them once.")
    if images is not None and dim is not None and choose_kind(images, whole) == "ivf_pq":
        _sizes(images, dim, whole["ivf_pq"])
    return whole


def _completed(name: str, given: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise UserError(f"{name} is {given!r}; it must be a group of settings, as in conf/index.")
    if strange := [key for key in given if key not in defaults]:
        raise UserError(unknown(name, strange[0], defaults))
    return {**defaults, **given}


def choose_kind(count: int, settings: Mapping[str, Any]) -> str:
    """The kind for so many images: what the settings say, or the most exact one that is fast."""
    if settings["kind"] != "auto":
        return str(settings["kind"])
    if count <= settings["flat_up_to"]:
        return "flat"
    return "hnsw" if count <= settings["hnsw_up_to"] else "ivf_pq"


def create_index(
    kind: str, unit_ND: NDArray[np.float32], settings: Mapping[str, Any]
) -> faiss.Index:
    """An index of this kind that holds these unit vectors; the same ones give the same index.

    Raises:
        UserError: the kind cannot hold these vectors.
    """
    n, dim = unit_ND.shape
    trained_on = TRAINED_ON
    index: Any  # faiss describes what all kinds have
    if kind == "flat":
        index = faiss.IndexFlatIP(dim)
    elif kind == "hnsw":
        index = _hnsw(dim, settings["hnsw"])
    else:
        index = _ivf_pq(n, dim, settings["ivf_pq"], settings["seed"])
        trained_on = max(trained_on, PER_LIST * index.nlist)
    drawn = np.random.default_rng(settings["seed"]).permutation(n)[:trained_on]
    threads = faiss.omp_get_max_threads()
    with tqdm(total=n, desc=f"index ({kind})", unit="image", disable=None) as bar:
        if not index.is_trained:
            index.train(unit_ND[np.sort(drawn)])
        try:
            if kind == "hnsw":  # several threads would link the images in the order of their race
                faiss.omp_set_num_threads(1)
            for start in range(0, n, CHUNK):
                part = unit_ND[start : start + CHUNK]
                index.add(part)
                bar.update(len(part))
        finally:
            faiss.omp_set_num_threads(threads)
    return index


def _hnsw(dim: int, settings: Mapping[str, int]) -> faiss.Index:
    bits: Any = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexHNSWSQ(dim, bits, settings["M"], faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = settings["ef_construction"]
    index.hnsw.efSearch = settings["ef_search"]
    return index


def _sizes(n: int, dim: int, settings: Mapping[str, Any]) -> tuple[int, int]:
    """Lists, and bytes of a code, of an IVF-PQ index; refuses what cannot be learned."""
    least = CODEWORDS * PER_CODEWORD
    if n < least:
        raise UserError(
            f"index.kind=ivf_pq learns {CODEWORDS} codewords and needs {least:,} images for that; "
            f"there are {n:,}: take flat or hnsw."
        )
    most = n // PER_CODEWORD
    lists = settings["nlist"] or min(most, round(4 * math.sqrt(n)))
    if lists > most:
        raise UserError(
            f"index.ivf_pq.nlist is {lists:,}; {n:,} images can fill {most:,} at most "
            f"({PER_CODEWORD} each)."
        )
    wanted = settings["m"] or max(1, dim // 2)
    size = max(m for m in range(1, min(wanted, dim) + 1) if dim % m == 0)
    if settings["m"] not in (None, size):
        raise UserError(
            f"index.ivf_pq.m is {wanted}, which does not divide the {dim} dimensions of "
            f"the embeddings; {size} does."
        )
    if settings["m"] is None and 4 * size < wanted:
        raise UserError(
            f"index.kind=ivf_pq cuts embeddings into equal parts, and {dim} dimensions have none "
            f"between {wanted // 4 + 1} and {wanted}: take hnsw, or another model.dim."
        )
    return lists, size


def _ivf_pq(n: int, dim: int, settings: Mapping[str, Any], seed: int) -> faiss.Index:
    lists, size = _sizes(n, dim, settings)
    cells = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFPQ(cells, dim, lists, size, 8, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.pq.cp.seed = seed + 1234, seed + 1234  # 1234 is what faiss takes
    index.nprobe = min(settings["nprobe"], lists)
    return index


def recall_against_exact(
    index: faiss.Index, unit_ND: NDArray[np.float32], seed: int
) -> tuple[float, int]:
    """Recall@10 of the index against exact search, and of how many sampled queries.

    Queries are images of the index; none counts as its own neighbor. A found image counts if it is
    as similar as the tenth of the exact ones, so that copies may stand in for each other.
    """
    n = len(unit_ND)
    if n < 2:
        return 1.0, 0
    k = min(K, n - 1)
    queries = np.sort(np.random.default_rng(seed).permutation(n)[:SAMPLED])
    asking_QD = unit_ND[queries]
    exact_QL = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, n, CHUNK):
        part_QC = asking_QD @ unit_ND[start : start + CHUNK].T
        own = (queries >= start) & (queries < start + CHUNK)
        part_QC[own, queries[own] - start] = -np.inf
        both = np.concatenate([exact_QL, part_QC], axis=1)
        exact_QL = -np.partition(-both, k - 1, axis=1)[:, :k]
    least_Q1 = exact_QL.min(axis=1, keepdims=True) - TIE
    _, found_QL = index.search(asking_QD, k + 1)
    hits = 0
    for query, row, least in zip(queries, found_QL, least_Q1[:, 0], strict=True):
        others = row[(row >= 0) & (row != query)][:k]
        hits += int((unit_ND[others] @ unit_ND[query] >= least).sum())
    return hits / (k * len(queries)), len(queries)
