"""Processes that wait for work and can form a process group of any size up to their number.

Starting an interpreter with torch takes seconds and joining a group some milliseconds, so the whole
test run shares one pool.
"""

import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

PATIENCE = 120  # seconds for one job
APART = "apart"  # instead of whether a rank came through: the ranks did not find each other


class GlooPool:
    """Args: size: the largest world."""

    def __init__(self, size: int):
        self._folder = tempfile.TemporaryDirectory()
        self._jobs = 0
        self._pipes: list = [None] * size
        self._processes: list = [None] * size
        for number in range(size):
            self._start(number)

    def _start(self, number: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(there,), daemon=True)
        process.start()
        there.close()  # the process has its own: when that ends, so does this one
        self._pipes[number], self._processes[number] = here, process

    def run(self, function: Callable, world_size: int, *args: Any) -> list[Any]:
        """What `function(*args)` returns on each rank of a group of `world_size`.

        `function` lives in a module that the processes can import, and returns no tensors (they
        would travel as shared memory): arrays will do.
        """
        answers = self.attempt(function, world_size, *args)
        failures = [f"rank {i}: {what}" for i, (good, what) in enumerate(answers) if not good]
        assert not failures, "\n".join(failures)
        return [value for _, value in answers]

    def attempt(self, function: Callable, world_size: int, *args: Any) -> list[tuple[bool, Any]]:
        """As `run`, of a function that may end its process: whether each rank came through, and
        what it returned, or else why it did not. Who died or hangs is replaced.

        On a busy machine gloo sometimes fails to connect: then once more, with new processes.
        """
        answers = self._answers(function, world_size, *args)
        if answers[-1][0] == APART:
            for number in range(world_size):
                self._replace(number)
            answers = self._answers(function, world_size, *args)
            answers += [(APART, "not asked")] * (world_size - len(answers))
        return [(good is True, what) for good, what in answers]

    def _answers(self, function: Callable, world_size: int, *args: Any) -> list[tuple[Any, Any]]:
        """Of each rank, up to the first that says APART."""
        self._jobs += 1
        store = str(Path(self._folder.name) / f"store-{self._jobs}")
        pipes = self._pipes[:world_size]
        for rank, pipe in enumerate(pipes):
            pipe.send((function, rank, world_size, store, args))
        answers: list[tuple[Any, Any]] = []
        while len(answers) < world_size and not (answers and answers[-1][0] == APART):
            answers.append(self._answer(len(answers)))
        return answers

    def _answer(self, number: int) -> tuple[Any, Any]:
        pipe = self._pipes[number]
        try:
            if pipe.poll(PATIENCE):
                return pipe.recv()
            self._replace(number)
            return False, "no answer"
        except (EOFError, ConnectionResetError):
            self._processes[number].join()
            status = self._processes[number].exitcode
            self._start(number)
            return False, f"ended with status {status}"

    def _replace(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number].join()
        self._start(number)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        self._folder.cleanup()


def _serve(pipe) -> None:
    """One process of the pool: takes jobs until it is killed."""
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    while True:
        function, rank, world_size, store, args = pipe.recv()
        came = APART
        try:
            dist.init_process_group(
                "gloo",
                store=dist.FileStore(store, world_size),
                rank=rank,
                world_size=world_size,
                timeout=timedelta(seconds=PATIENCE / 2),
            )
            came = False
            answer = True, function(*args)
        except BaseException:
            answer = came, traceback.format_exc()
        finally:
            # Also after a failure: it frees the ranks that wait for this one.
            if dist.is_initialized():
                dist.destroy_process_group()
            torch.use_deterministic_algorithms(False)
        pipe.send(answer)
