"""A made-up published file, in two versions."""

import hashlib
import random
from pathlib import Path

from rhs.datasets.download.downloads import RemoteFile

CONTENT = random.Random(0).randbytes(1_000_000)
OLDER = random.Random(1).randbytes(1_000_000)
HALF = len(CONTENT) // 2
MD5, SHA256 = (f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}" for kind in ("md5", "sha256"))


def birds(*urls: str, digest: str | None = MD5, **more) -> RemoteFile:
    return RemoteFile("birds.tgz", urls, digest, **more)


def left_beside(path: Path) -> set[str]:
    return {p.name.removeprefix(path.name) for p in path.parent.iterdir()} - {"", ".lock"}
