"""The contenders of benchmarks.retrieval: the same metrics of the same embeddings, by each library.

    python -m benchmarks.retrieval_peers NAME FOLDER [DEVICE]

prints one contender's metrics, seconds and memory as JSON; FOLDER holds embeddings.npy (unit rows)
and labels.npy. A contender is a function of (embeddings, labels, device) that imports what it
needs, so that a process loads one library, and open-metric-learning may have a Python of its own.
"""

import json
import sys
import time
from collections.abc import Iterator
from importlib.metadata import distributions, version
from pathlib import Path
from unittest.mock import patch

import numpy as np

KS = (1, 10, 100, 1000)
QUERIES = 4096  # asked at a time
WARM = 400  # classes of the call that loads libraries and starts threads


def ours(x_ND: np.ndarray, labels_N: np.ndarray, device: str) -> dict[str, float]:
    from rhs.metrics.retrieval import score

    return score(x_ND, labels_N, KS, draws=0, device=device).values


def untied(x_ND: np.ndarray, labels_N: np.ndarray, device: str) -> dict[str, float]:
    """Ours, but any difference of similarities decides, as with the others."""
    from rhs.metrics import ranks

    with patch.object(ranks, "TIE", 1e-12):
        return ours(x_ND, labels_N, device)


def product(x_ND: np.ndarray, labels_N: np.ndarray, device: str) -> dict[str, float]:
    """All similarities in float32, in blocks, and nothing made of them."""
    import torch

    x = torch.from_numpy(x_ND).to(device)
    block_QN = torch.empty(1024, len(x), device=device)
    for queries in x.split(len(block_QN)):
        torch.mm(queries, x.T, out=block_QN[: len(queries)])
    if device != "cpu":
        torch.cuda.synchronize()
    return {}


def faiss10(x_ND: np.ndarray, labels_N: np.ndarray, device: str) -> dict[str, float]:
    return metrics(faiss_neighbors(x_ND, 10, device), labels_N, 10)


def faiss1000(x_ND: np.ndarray, labels_N: np.ndarray, device: str) -> dict[str, float]:
    return metrics(faiss_neighbors(x_ND, 1000, device), labels_N, 1000)


def sklearn1000(x_ND: np.ndarray, labels_N: np.ndarray, device: str) -> dict[str, float]:
    from sklearn.neighbors import NearestNeighbors

    k = min(1000, len(x_ND) - 1)
    found = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(x_ND)
    blocks = (
        (first, others_of(first, found.kneighbors(queries, k + 1, return_distance=False)))
        for first, queries in in_blocks(x_ND)
    )
    return metrics(blocks, labels_N, 1000)


def pml(x_ND: np.ndarray, labels_N: np.ndarray, device: str) -> dict[str, float]:
    return pml_metrics(x_ND, labels_N, device, "max_bin_count", ())


def pml1000(x_ND: np.ndarray, labels_N: np.ndarray, device: str) -> dict[str, float]:
    return pml_metrics(x_ND, labels_N, device, min(1000, len(x_ND) - 1), KS)


def oml1000(x_ND: np.ndarray, labels_N: np.ndarray, device: str) -> dict[str, float]:
    """batched_knn is what RetrievalResults.from_embeddings calls, less its data set."""
    import torch

    from rhs.models.trunks import declare_torchvision

    declare_torchvision()
    from oml.functional.knn import batched_knn
    from oml.metrics import calc_retrieval_metrics_rr
    from oml.retrieval import RetrievalResults

    x, labels, everything = torch.from_numpy(x_ND), torch.from_numpy(labels_N), len(x_ND)
    ids = torch.arange(everything)
    found = batched_knn(x, ids, ids, top_n=min(1000, everything - 1), labels_gt=labels)
    made = calc_retrieval_metrics_rr(
        RetrievalResults(*found),
        cmc_top_k=KS,
        precision_top_k=(1,),
        map_top_k=(),
        verbose=False,
    )
    recalls = {f"recall@{k}": float(made["cmc"][k]) for k in KS}
    return recalls | {"precision@1": float(made["precision"][1])}


CONTENDERS = {
    "ours": ("rhs-dml", ours),
    "untied": ("rhs-dml", untied),
    "product": ("torch", product),
    "faiss10": ("faiss", faiss10),
    "faiss1000": ("faiss", faiss1000),
    "pml": ("pytorch-metric-learning", pml),
    "pml1000": ("pytorch-metric-learning", pml1000),
    "oml1000": ("open-metric-learning", oml1000),
    "sklearn1000": ("scikit-learn", sklearn1000),
}


def in_blocks(x_ND: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for first in range(0, len(x_ND), QUERIES):
        yield first, x_ND[first : first + QUERIES]


def faiss_neighbors(x_ND: np.ndarray, k: int, device: str) -> Iterator[tuple[int, np.ndarray]]:
    """The first query of a block and the k nearest others [Q, k] of each, by flat search."""
    import faiss

    index = faiss.IndexFlatIP(x_ND.shape[1])
    if device != "cpu":
        if not faiss.get_num_gpus():
            raise SystemExit("this faiss has no GPU")
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(x_ND)
    for first, queries in in_blocks(x_ND):
        yield first, others_of(first, index.search(queries, min(k + 1, len(x_ND)))[1])


def others_of(first: int, indices_QL: np.ndarray) -> np.ndarray:
    """Neighbors [Q, L - 1] without the query itself, or without the last where it is absent."""
    keep_QL = indices_QL != np.arange(first, first + len(indices_QL))[:, None]
    keep_QL[keep_QL.all(axis=1), -1] = False
    return indices_QL[keep_QL].reshape(len(indices_QL), -1)


def metrics(
    blocks: Iterator[tuple[int, np.ndarray]], labels_N: np.ndarray, k: int
) -> dict[str, float]:
    """What k neighbors of every query tell; R-precision and MAP@R where k reaches every R.

    Every class has two items or more.
    """
    _, class_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    reached = [cut for cut in KS if cut <= k]
    names = [f"recall@{cut}" for cut in reached] + ["precision@1"]
    names += ["r_precision", "map@r"] if count_C.max() - 1 <= k else []
    sums: dict[str, float] = dict.fromkeys(names, 0.0)
    for first, neighbors_QK in blocks:
        queries = slice(first, first + len(neighbors_QK))
        right_QK = labels_N[neighbors_QK] == labels_N[queries, None]
        relevant_Q1 = count_C[class_N[queries], None] - 1
        inside_QR = right_QK[:, : count_C.max() - 1]
        place_R = np.arange(1, inside_QR.shape[1] + 1)
        inside_QR = inside_QR & (place_R <= relevant_Q1)
        precise_QR = inside_QR * np.cumsum(inside_QR, axis=1) / place_R
        block = {f"recall@{cut}": right_QK[:, :cut].any(axis=1).sum() for cut in reached}
        block |= {"precision@1": right_QK[:, 0].sum()}
        block |= {"r_precision": (inside_QR / relevant_Q1).sum()}
        block |= {"map@r": (precise_QR / relevant_Q1).sum()}
        for name in sums:
            sums[name] += float(block[name])
    return {name: total / len(labels_N) for name, total in sums.items()}


def pml_metrics(
    x_ND: np.ndarray, labels_N: np.ndarray, device: str, k: int | str, recalls: tuple[int, ...]
) -> dict[str, float]:
    """AccuracyCalculator, with Recall@K added in the way it offers for metrics of one's own."""
    import torch
    from pytorch_metric_learning.utils import accuracy_calculator as theirs

    class Calculator(theirs.AccuracyCalculator):
        def calculate_recalls(self, knn_labels, query_labels, not_lone_query_mask, **_):
            right = (knn_labels == query_labels[:, None])[not_lone_query_mask]
            return [right[:, :cut].any(dim=1).double().mean().item() for cut in recalls]

        def requires_knn(self):
            return [*super().requires_knn(), "recalls"]

    names = {
        "precision_at_1": "precision@1",
        "r_precision": "r_precision",
        "mean_average_precision_at_r": "map@r",
    }
    include = (*names, "recalls") if recalls else tuple(names)
    calculator = Calculator(include=include, k=k, device=torch.device(device))
    made = calculator.get_accuracy(x_ND, labels_N)
    found = dict(zip((f"recall@{cut}" for cut in recalls), made.pop("recalls", ()), strict=True))
    return found | {names[name]: value for name, value in made.items()}


def measure(name: str, folder: Path, device: str) -> dict:
    """Metrics, seconds, and MiB at the peak beyond what was held before: data and libraries."""
    package, contender = CONTENDERS[name]
    x_ND, labels_N = (np.load(folder / f"{part}.npy") for part in ("embeddings", "labels"))
    some = labels_N < WARM
    contender(x_ND[some], labels_N[some], device)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    held, start = _status("VmRSS"), time.perf_counter()
    made = contender(x_ND, labels_N, device)
    seconds = time.perf_counter() - start
    memory = (_status("VmHWM") - held) / 1024
    gpu = _gpu_memory() if device != "cpu" else None
    return {"metrics": made, "seconds": seconds, "mib": memory, "gpu_mib": gpu} | {
        "version": f"{package} {_version(package)}"
    }


def _version(package: str) -> str:
    """Of the distribution; faiss comes as one of several."""
    names = (
        [package, "faiss-cpu", "faiss-gpu", "faiss-gpu-cu12"] if package == "faiss" else [package]
    )
    installed = {each.name for each in distributions()}
    return next(version(name) for name in names if name in installed)


def _status(name: str) -> int:
    (line,) = [s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(name)]
    return int(line.split()[1])


def _gpu_memory() -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


if __name__ == "__main__":
    device = sys.argv[3] if len(sys.argv) > 3 else "cpu"
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), device)))
