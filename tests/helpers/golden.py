"""The losses of the first steps of some methods, written down: `make golden` writes them anew.

    PYTHONPATH=.:tests/helpers python -m golden

A file of tests/assets/losses/ names what its digits depend on beside the code, and has a line for
each step: the losses of one and of two workers. Nine digits tell one float32 from every other.
"""

import hashlib
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch
from gloo_pool import GlooPool
from tiny_project import ROOT, small_params, write_shards

from rhs.storage.store import FolderStore
from rhs.training import worker
from rhs.training.hooks import RunHooks

FOLDER = ROOT / "tests/assets/losses"
METHODS = ("npair", "symm_npair", "rhs_npair", "iaa_multi_similarity", "schem")
WORKERS = (1, 2)
STEPS = 20
# Five epochs of four steps. At a higher rate a choice between two negatives as hard as each other
# soon makes another curve of the last digit.
SETTINGS = ("seed=1", "train.lr=0.001", "train.per_class=4", "train.epochs=5")
OF_A_PROCESSOR = ("vendor_id", "cpu family", "model", "stepping", "cache size", "flags")


def curves(folder: Path, shards: Path) -> dict[str, list[float]]:
    """The losses of every method's steps, on this rank: whole runs on shards, augmentation too."""
    return {method: _curve(method, shards, folder / method) for method in METHODS}


def _curve(method: str, shards: Path, folder: Path) -> list[float]:
    params = small_params(f"method={method}", *SETTINGS)
    rows: list[dict] = []
    worker.train_rank(
        params,
        shards,
        FolderStore(folder),
        torch.device("cpu"),
        RunHooks(record=rows.extend),
    )
    assert len(rows) == STEPS
    return [row["loss"] for row in rows]


def computed(pool: GlooPool, folder: Path) -> dict[str, np.ndarray]:
    """For every method its losses, float32 [STEPS, len(WORKERS)], on which all ranks agree."""
    shards = write_shards(folder / "shards", train=[8] * 8)
    made = []
    for workers in WORKERS:
        answers = pool.run(curves, workers, folder / f"workers{workers}", shards)
        assert all(answer == answers[0] for answer in answers)
        made.append(answers[0])
    return {name: np.array([of[name] for of in made], np.float32).T for name in METHODS}


def made_on() -> str:
    """What the digits depend on beside the code: torch, and what it makes of the processor."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().split("\n\n")[0].splitlines() if told.exists() else []
    kept = [line for line in lines if line.split("\t")[0].strip() in OF_A_PROCESSOR]
    digest = hashlib.sha256("\n".join(kept or [platform.platform()]).encode()).hexdigest()[:12]
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {digest}"


def text(method: str, losses: np.ndarray, made_on: str) -> str:
    """A file: what it is, what it was made on, and the losses."""
    lines = [
        f"# {method}: losses in float32, one thread a worker, written by `make golden`",
        f"# made on {made_on}",
        "# step, one worker, two workers",
        *(f"{i} " + " ".join(f"{x:.9g}" for x in row) for i, row in enumerate(losses, 1)),
    ]
    return "\n".join(lines) + "\n"


def read(method: str) -> tuple[np.ndarray, str]:
    """The losses of a file, float32 [STEPS, len(WORKERS)], and what it was made on."""
    lines = (FOLDER / f"{method}.txt").read_text().splitlines()
    rows = [line.split()[1:] for line in lines if not line.startswith("#")]
    return np.array(rows, np.float32), lines[1].removeprefix("# made on ")


def main() -> None:
    """Write every file anew, and say which have changed."""
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    pool = GlooPool(max(WORKERS))
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = computed(pool, Path(folder))
    finally:
        pool.close()
    for method, losses in made.items():
        file, new = FOLDER / f"{method}.txt", text(method, losses, made_on())
        old = file.read_text() if file.exists() else ""
        file.write_text(new)
        print(f"{file.relative_to(ROOT)}: {'as it was' if old == new else 'changed'}")


if __name__ == "__main__":
    main()
