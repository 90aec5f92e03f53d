"""Which run this is. A run is a pure function of (parameters, data), so those two name it."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from rhs.config.settings import Params
from rhs.paths import project_folder
from rhs.storage.store import is_url

# What a result depends on. The number of workers, tracking and the like are absent on purpose:
# changing them continues the same run.
GROUPS = ("seed", "model", "method", "train")
PART = 72  # bytes of each part of a run's name, of three
CODE = (
    "config/instantiate.py",
    "distributed/collectives.py",
    "data",
    "methods",
    "metrics",
    "models",
    "training",
)


@dataclass(frozen=True)
class Run:
    """A run's name and where it is kept between tries.

    Attributes:
        folder: on this machine: its log, its numbers, and its checkpoints unless `url` is set.
        url: of this run in an object store, or None.
    """

    name: str
    folder: Path
    url: str | None = None

    @property
    def checkpoints(self) -> str:
        """A folder or a URL, see rhs.storage.store."""
        return f"{self.url}/checkpoints" if self.url else str(self.folder / "checkpoints")

    @property
    def times(self) -> Path:
        """Each epoch's numbers and times, one JSON object a line, of every try."""
        return self.folder / "epochs.jsonl"

    @property
    def journal(self) -> Path:
        return self.folder / "log.txt"


def identify(params: Params, data_digest: str) -> Run:
    """The run of these parameters, this data and this code.

    Args:
        data_digest: the manifest's `digest`.
    """
    everything = asdict(params)
    what = {group: everything[group] for group in GROUPS}
    # Which checkpoint becomes the model is chosen from a run, not by it.
    what["train"] = {key: what["train"][key] for key in what["train"] if key != "select"}
    what |= {key: everything["dataset"][key] for key in ("augment", "coarse")}
    if "pytorch_metric_learning" in json.dumps(everything["method"]):
        what |= {"pytorch-metric-learning": version("pytorch-metric-learning")}
    what |= {"data": data_digest, "code": code_digest()}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]
    parts = (params.dataset.name, params.method["name"], params.model.name)
    return run_by_name("-".join([*map(_fit, parts), digest]), params.cluster.storage)


def _fit(part: object) -> str:
    """A part of a folder's name: of `hf-hub:timm/tiny_vit` only what any file system takes, and
    three parts with what is added to them in less than 255 bytes."""
    text = re.sub(r"[^\w.@+=-]", "_", str(part))
    return text.encode()[:PART].decode(errors="ignore")


def run_by_name(name: str, storage: str | None = None) -> Run:
    """The run of that name; a trained model carries the name of the run that made it.

    Args:
        storage: `cluster.storage`; a URL keeps the run's checkpoints.
    """
    url = f"{str(storage).rstrip('/')}/runs/{name}" if is_url(storage) else None
    return Run(name, (project_folder() / "runs" / name).resolve(), url)


@cache
def code_digest(code: tuple[str, ...] = CODE) -> str:
    """Digest of the source that training runs, so that changed code never continues old weights.

    Read once: a process runs the code that it has imported, whatever becomes of the files.

    Args:
        code: files and folders of `rhs/`.
    """
    root = Path(__file__).parent
    files = [f for entry in code for f in sorted([root / entry, *(root / entry).rglob("*.py")])]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
