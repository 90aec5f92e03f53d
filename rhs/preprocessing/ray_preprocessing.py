"""Prepares the images of a plan on every CPU that Ray offers, and hands them over in order."""

import logging
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray.data
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning
from tqdm import tqdm

from rhs.distributed.ray_cluster import ordered_and_quiet
from rhs.distributed.worker_deaths import KILLED, MEMORY, NODE, PREPARING, death
from rhs.errors import UserError
from rhs.preprocessing.prepare_rows import CHUNK_BYTES, PREPARED_SCHEMA, prepare_rows

BLOCK_ROWS, BLOCK_BYTES = 256, 2**24  # of a task: about a second of work on photographs
IN_FLIGHT_BYTES = 2**28
RETRIES = 2  # of a task whose process died
ENDS = {
    MEMORY: "ran out of memory",
    NODE: "was lost with its node",
    KILLED: f"died {RETRIES + 1} times; a file may crash its decoder, or memory is short",
}


def prepare_on_ray(plan: pa.Table, raw: Path, how: dict[str, int]) -> Iterator[pa.Table]:
    """The rows of `plan` in order, in tables that have the columns of PREPARED_SCHEMA too."""
    done = 0
    with ordered_and_quiet(), tqdm(total=len(plan), desc="preprocess", disable=None) as bar:
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = CHUNK_BYTES
        context.execution_options.resource_limits = ray.data.ExecutionResources(
            object_store_memory=IN_FLIGHT_BYTES
        )
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure is told below
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RayDeprecationWarning)  # of max_retries
            dataset = ray.data.from_arrow(_blocks(plan)).map_batches(
                partial(prepare_rows, raw=raw, **how),
                batch_size=None,
                batch_format="pyarrow",
                max_retries=RETRIES,  # Ray Data would never give up
            )
        try:
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield _joined(plan, table, done)
                done += len(table)
                bar.update(len(table))
        except (RayError, MemoryError) as error:
            end = MEMORY if isinstance(error, MemoryError) else death(error)
            if end is None:
                raise
            name = plan["name"][min(done, len(plan) - 1)].as_py()
            raise UserError(
                f"A process that prepared images {ENDS[end]}. {done} of {len(plan)} images were "
                f"done; it was at {name} or shortly after. Less memory is needed with {PREPARING}."
            ) from error


def _blocks(plan: pa.Table) -> list[pa.Table]:
    """What each task needs to know, in order: at most BLOCK_ROWS images or about BLOCK_BYTES."""
    needed = plan.select(["name", "file", "offset", "size", "sha256"])
    needed = needed.append_column("row", pa.array(np.arange(len(plan))))
    blocks, start, held = [], 0, 0
    for row, size in enumerate([*plan["size"].to_pylist(), BLOCK_BYTES]):
        if row - start == BLOCK_ROWS or held + size > BLOCK_BYTES or row == len(plan):
            if row > start:
                blocks.append(needed.slice(start, row - start))
            start, held = row, 0
        held += size
    return blocks


def _joined(plan: pa.Table, prepared: pa.Table, start: int) -> pa.Table:
    """The rows of `plan` from `start` on with what became of them."""
    rows = prepared["row"].to_numpy()
    assert np.array_equal(rows, np.arange(start, start + len(rows))), "Ray changed the order"
    table = plan.slice(start, len(rows))
    for name in PREPARED_SCHEMA.names[1:]:
        table = table.append_column(name, prepared[name])
    return table
