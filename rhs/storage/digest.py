"""SHA-256 of files."""

import hashlib
from pathlib import Path

CHUNK = 1 << 20  # bytes read at a time


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()
