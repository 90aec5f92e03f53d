"""What a training step costs on W workers: plain formulas, no measurements.

Throughout: W ranks, B images in the global batch, D dimensions, K classes in the batch, C in the
data set, P parameters; seconds and bytes.
"""

import math
from dataclasses import dataclass

from rhs.methods.tiles import ENTRIES, LARGE


@dataclass(frozen=True)
class Link:
    """Between neighbors: seconds of a message of no length; bytes a second that a rank sends."""

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Machine:
    """One rank and what joins it to the others.

    Attributes:
        image: seconds of the model's forward and backward for an image.
        loss: seconds of the loss however small the batch: launches, Python.
        flops: of a float32 product, a second.
        memory_bandwidth, memory: bytes a second, bytes.
        parameter: seconds of the optimizer for a parameter.
        overlap: share of the backward pass that the gradients' all-reduce can hide behind.
        copy, write: bytes a second to the host's memory, and to where checkpoints are kept.
    """

    link: Link
    image: float
    loss: float
    flops: float
    memory_bandwidth: float
    memory: float
    parameter: float
    overlap: float
    copy: float
    write: float


@dataclass(frozen=True)
class Loss:
    """What a method costs beyond its model.

    Attributes:
        products: floating-point operations of its matrix products, forward and backward, for each
            of the B B D of one product of the whole batch.
        passes: times that a B x B matrix of float32 is read or written.
        rows: times that the embeddings, B x D of float32, are.
        columns: those of its matrices, in B; one half where rows are pairs.
        centers: batch, ema, epoch, proxy, or None.
    """

    products: float
    passes: float
    rows: float
    columns: float = 1.0
    centers: str | None = None


def all_reduce_bytes(payload: float, workers: int) -> float:
    """Bytes that a rank sends in a ring: every part goes round twice."""
    return 2 * (workers - 1) / workers * payload


def all_gather_bytes(whole: float, workers: int) -> float:
    """Bytes that a rank sends in a ring, of a result of `whole` bytes."""
    return (workers - 1) / workers * whole


def all_reduce_seconds(payload: float, workers: int, link: Link) -> float:
    """Bytes as of a ring; messages as of a tree, which is what short ones take."""
    messages = 2 * math.ceil(math.log2(workers))
    return messages * link.latency + all_reduce_bytes(payload, workers) / link.bandwidth


def reduce_scatter_bytes(whole: float, workers: int) -> float:
    """Bytes that a rank sends in a ring, of an operand of `whole` bytes."""
    return (workers - 1) / workers * whole


def all_gather_seconds(whole: float, workers: int, link: Link) -> float:
    return (workers - 1) * link.latency + all_gather_bytes(whole, workers) / link.bandwidth


def shares_rows(batch: int, workers: int) -> bool:
    """Whether each rank computes its own rows of the loss, or all of them."""
    return workers > 1 and batch**2 >= LARGE


def gather_payloads(batch: int, dim: int, workers: int) -> dict[str, int]:
    """Embeddings of the whole batch; and their gradients, if ranks share the rows of the loss.

    Every rank knows the labels. The sums of a shared loss are some ten numbers, and not counted.
    """
    whole = {"embeddings": 4 * batch * dim}
    return whole | ({"gradients": 4 * batch * dim} if shares_rows(batch, workers) else {})


def gather_seconds(batch: int, dim: int, workers: int, link: Link) -> float:
    """A reduce-scatter takes as long as an all-gather; the sums take a message's latency twice."""
    payloads = gather_payloads(batch, dim, workers).values()
    each = sum(all_gather_seconds(payload, workers, link) for payload in payloads)
    return each + (all_reduce_seconds(0, workers, link) if shares_rows(batch, workers) else 0.0)


def loss_seconds(loss: Loss, batch: int, dim: int, machine: Machine, workers: int = 1) -> float:
    """On each rank: the whole loss of a small batch, its own rows of a large one.

    What does not fit into one tile is computed again in the backward pass: 4 for 3.
    """
    share = workers if shares_rows(batch, workers) else 1
    entries = (loss.columns * batch) ** 2 / share
    again = 4 / 3 if entries > ENTRIES else 1
    products = loss.products * batch**2 * dim / share / machine.flops
    moved = 4 * (loss.passes * batch**2 / share * again + loss.rows * batch * dim)
    return machine.loss + again * products + moved / machine.memory_bandwidth


def step(
    machine: Machine, loss: Loss, workers: int, batch: int, dim: int, parameters: int
) -> dict[str, float]:
    """Seconds of a step's parts; of the gradients' all-reduce what the backward does not hide."""
    model = batch / workers * machine.image
    parts = {
        "model": model,
        "loss": loss_seconds(loss, batch, dim, machine, workers),
        "gather": 0.0,
        "gradients": 0.0,
        "optimizer": parameters * machine.parameter,
    }
    if workers > 1:
        link = machine.link
        hidden = machine.overlap * 2 / 3 * model  # the backward is two thirds of it
        whole = all_reduce_seconds(4 * parameters, workers, link)
        parts["gather"] = gather_seconds(batch, dim, workers, link)
        parts["gradients"] = max(0.0, whole - hidden)
    return parts


def table_bytes(centers: str | None, classes: int, dim: int) -> int:
    """What each rank keeps per class: centers and a counter; or proxies and their two averages."""
    row = {"ema": 4 * dim + 8, "epoch": 4 * dim, "proxy": 3 * 4 * dim}
    return classes * row.get(centers or "", 0)


def survey_bytes(centers: str | None, classes: int, dim: int) -> int:
    """At the peak of a pass over the training set, beside the table and all in float64: the sums,
    their copy that is all-reduced, the means (for proxies also of unit length), the old table and
    the new one."""
    tables = {"epoch": 3, "proxy": 4}.get(centers or "", 0)
    return 8 * classes * (2 * (dim + 1) + tables * dim) if tables else 0


def checkpoint_bytes(parameters: int, centers: str | None, classes: int, dim: int) -> int:
    """Weights and the optimizer's two averages, and the tables."""
    return 3 * 4 * parameters + table_bytes(centers, classes, dim)


def most_classes(centers: str, dim: int, memory: float) -> int:
    """C at which the table, and what a survey holds beside it, fill the memory."""
    return int(memory / (table_bytes(centers, 1, dim) + survey_bytes(centers, 1, dim)))


def exposed_images(machine: Machine, workers: int, parameters: int) -> int:
    """Images of a rank below which its backward pass no longer hides the gradients' all-reduce."""
    whole = all_reduce_seconds(4 * parameters, workers, machine.link)
    return math.ceil(whole / (machine.overlap * 2 / 3 * machine.image))
