"""Execute the notebooks and keep their outputs: ``python scripts/run_notebooks.py [NAME.ipynb …]`` (default: all).

Each runs in a folder of its own that is thrown away. Outputs that name a folder of this machine are refused.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat

SCRIPTS = Path(__file__).parent
BESIDE = ("quickstart_collection.py", "quickstart_weights.py")
"""What the notebooks use of this folder."""
TIMEOUT = 1200
MAX_BYTES = 200_000
"""Of a notebook with its outputs."""


def execute(path: Path, folder: Path) -> Any:
    """The notebook with new outputs, executed in a folder that gets what stands beside it.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    for name in BESIDE:
        shutil.copy(SCRIPTS / name, folder / name)
    book = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    # DeepSpeed, where it is installed, warns that there is no GPU; tqdm, that there are no widgets for its bars
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "PYTHONWARNINGS": "ignore:IProgress not found"}
    nbclient.NotebookClient(book, timeout=TIMEOUT, resources=resources, record_timing=False).execute(env=environment)
    return book


def local_names(book: Any, folder: Path) -> set[str]:
    """Folders of this machine that stand in the outputs."""
    text = str([cell.get("outputs", []) for cell in book.cells])
    known = {str(folder), str(SCRIPTS.resolve().parent), sys.prefix, str(Path.home())}
    found = re.findall(r"/(?:home|root|tmp|Users)/\S*|/\S*site-packages", text)
    return {name for name in known if len(name) > 2 and name in text}.union(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="notebooks of this folder")
    names = parser.parse_args().names or sorted(path.name for path in SCRIPTS.glob("*.ipynb"))
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            book = execute(SCRIPTS / name, Path(folder))
            found = local_names(book, Path(folder))
        size = len(nbformat.writes(book).encode())
        if found or size > MAX_BYTES:
            nbformat.write(book, Path(tempfile.gettempdir(), name))
            raise SystemExit(
                f"error: {name}: outputs must name no folder of this machine and be small; got {found or size}"
            )
        nbformat.write(book, SCRIPTS / name)
        print(f"{name}: {size // 1000} kB")


if __name__ == "__main__":
    main()
