"""Where MLflow is: the address of a server, or of a database file whatever its folder is called."""

import os
from pathlib import Path
from urllib.parse import quote, unquote

from rhs.paths import project_folder

FILE = "mlflow.db"
# MLflow makes the folder of an address that begins with `sqlite:///`, by its text: of `%20` and the
# like as they stand. With the driver's name it leaves that alone, and SQLAlchemy reads the text.
PLAIN, DRIVEN = "sqlite:///", "sqlite+pysqlite:///"


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a database file; a relative one lies in the project folder."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or database_uri(Path(FILE))
    file = database_file(given)
    if file is None:
        return given
    query = given.partition("?")[2]
    return database_uri(project_folder() / file) + (f"?{query}" if query else "")


def database_uri(file: Path) -> str:
    """The address of a database file."""
    text = str(file)
    return f"{PLAIN}{text}" if quote(text) == text else f"{DRIVEN}{quote(text)}"


def database_file(uri: str) -> Path | None:
    """The file of a database's address; None: the address is of something else."""
    scheme, _, rest = uri.partition(":///")
    written = rest.partition("?")[0]
    if scheme not in ("sqlite", "sqlite+pysqlite") or not written or written.startswith("file:"):
        return None
    read, literal = Path(unquote(written)), Path(written)
    # Who glues it from the path of a folder `My%20Project` does not think of escapes.
    return literal if literal.parent.is_dir() and not read.parent.is_dir() else read


if __name__ == "__main__":  # `make ui`
    print(tracking_uri())
