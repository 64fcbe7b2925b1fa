"""Who answers: a name for a model's weights that changes when they change."""

from __future__ import annotations

import hashlib
from pathlib import Path

SUFFIXES = {".safetensors", ".bin", ".json", ".model", ".jinja", ".txt"}
WHOLE_BYTES = 8 << 20
NUM_BLOCKS, BLOCK_BYTES = 64, 64 << 10


def model_identity(model_name_or_path: str, commit: str | None) -> str:
    """A hub model by its name and commit, a local folder by the content of its files.

    Files of more than 8 MiB are known by their size and 64 blocks spread over them: training moves every tensor, and
    reading tens of gigabytes would take longer than many a run.

    Args:
        model_name_or_path: name or folder.
        commit: the hub's commit, where it is known.
    """
    folder = Path(model_name_or_path)
    if not folder.is_dir():
        return f"{model_name_or_path}@{commit or 'unknown'}"
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in SUFFIXES:
            digest.update(f"{path.name} {path.stat().st_size} ".encode())
            _update(digest, path)
    return f"sha256:{digest.hexdigest()}"


def _update(digest: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size <= WHOLE_BYTES:
            digest.update(file.read())
            return
        for block in range(NUM_BLOCKS):
            file.seek(block * (size - BLOCK_BYTES) // (NUM_BLOCKS - 1))
            digest.update(file.read(BLOCK_BYTES))
