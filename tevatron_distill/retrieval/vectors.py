"""The vectors of a collection on disk: written in blocks, gone on with after a kill, read by memory map."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tevatron_distill.formats.disk import AppendedFile, replace_text, writing
from tevatron_distill.progress import progress
from tevatron_distill.schema import InputError, Passage

VECTORS_FILE = "vectors.npy"
DOCIDS_FILE = "docids.json"
BLOCK = 4096
"""Passages that are encoded, and lost by a kill, together."""

Vectors = npt.NDArray[Any]
Encode = Callable[[Sequence[Passage]], Vectors]


def write_vectors(folder: Path, passages: Sequence[Passage], dimension: int, encode: Encode) -> None:
    """Fill a folder with the vectors of a collection, as far as it does not hold them.

    ``vectors.npy`` float16 ``[N, D]`` holds them, ``docids.json`` says whose they are. The vectors grow as
    ``vectors.npy.partial``, by blocks of ``BLOCK`` passages that are seen on the disk before the next one begins; an
    interrupted run is gone on with behind its last whole block, and ends with the same bytes.

    Args:
        folder: of these vectors alone.
        passages: ``N`` of them.
        dimension: ``D``.
        encode: makes float ``[n, D]`` of n passages.

    Raises:
        InputError: if another process is writing them, or a vector leaves the range of float16.
    """
    header = _npy_header(len(passages), dimension)
    block_bytes = BLOCK * dimension * np.dtype(np.float16).itemsize
    partial = folder / f"{VECTORS_FILE}.partial"
    file = AppendedFile(partial)
    try:
        blocks = max(0, partial.stat().st_size - len(header)) // block_bytes
        file.truncate(len(header) + blocks * block_bytes if blocks else 0)
        if not blocks:
            file.append(header)
        done = blocks * BLOCK
        with progress(total=len(passages), initial=done, desc="encode", unit="passage") as bar:
            for start in range(done, len(passages), BLOCK):
                block = passages[start : start + BLOCK]
                file.append(_as_half(encode(block), block).tobytes())
                bar.update(len(block))
        replace_text(folder / DOCIDS_FILE, json.dumps([passage.docid for passage in passages]) + "\n")
        with writing(partial):
            os.replace(partial, folder / VECTORS_FILE)
    finally:
        file.close()


def read_vectors(folder: Path, num: int, dimension: int) -> Vectors:
    """The vectors of a folder.

    Args:
        folder: as `write_vectors` leaves it.
        num: how many there must be.
        dimension: how long each must be.

    Returns:
        float16 ``[num, dimension]``, a read-only memory map.

    Raises:
        InputError: if the file is missing, or is another.
    """
    path = folder / VECTORS_FILE
    try:
        vectors: Vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: must be an array of numpy's; got {error}; delete {folder}") from error
    if vectors.shape != (num, dimension) or vectors.dtype != np.float16:
        raise InputError(
            f"{path}: must be float16 [{num}, {dimension}]; got {vectors.dtype} {list(vectors.shape)}; delete {folder}"
        )
    return vectors


def _npy_header(num: int, dimension: int) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": (num, dimension)})
    return header.getvalue()


def _as_half(vectors: Vectors, passages: Sequence[Passage]) -> Vectors:
    with np.errstate(over="ignore"):
        half = np.asarray(vectors, dtype="<f2")
    beyond = np.flatnonzero(~np.isfinite(half).all(axis=1))
    if len(beyond):
        first = int(beyond[0])
        raise InputError(
            f'docid "{passages[first].docid}": a vector must be finite and fit into float16; got values up to '
            f"{np.abs(vectors[first]).max():g}; give --normalize, or another --dtype"
        )
    return half
