"""Passage vectors on disk: made once by a student that encodes passages apart, used by every later run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tevatron_distill.formats.jsonl import read_json
from tevatron_distill.layouts import DualLayout
from tevatron_distill.loading import hash_weights
from tevatron_distill.schema import InputError, Passage

logger = logging.getLogger(__name__)

BLOCK = 4096
STORE_FILE = "store.json"
NOT_OF_PASSAGES = {
    "attn_implementation",
    "pad_to_multiple_of",
    "temperature",
    "query_max_len",
    "query_prefix",
    "query_marker",
    "query_expansion",
    "attend_to_expansion",
}
"""Settings that change no passage's vectors."""


def digest(passage: Passage) -> bytes:
    """What a passage's vectors depend on, in 16 bytes."""
    return hashlib.blake2b(f"{passage.title}\0{passage.text}".encode(), digest_size=16).digest()


def model_identity(model: Any, layout: DualLayout) -> str:
    """A hash of what passage vectors depend on: weights with their precision, tokens, and settings of passages."""
    found = hashlib.blake2b(digest_size=16)
    settings = dataclasses.asdict(layout.settings)
    found.update(json.dumps({k: v for k, v in sorted(settings.items()) if k not in NOT_OF_PASSAGES}).encode())
    found.update(json.dumps(layout.tokenizer.get_vocab(), sort_keys=True).encode())
    hash_weights(model, found)
    return found.hexdigest()


class VectorStore:
    """A folder of passage vectors, read by memory map.

    ``vectors.npy`` float16 ``[N, D]`` holds the vectors of all passages behind each other, ``offsets.npy`` int64
    ``[P + 1]`` where each passage's begin, ``digests.npy`` uint8 ``[P, 16]`` hashes of the texts by which they are
    found, ``docids.json`` their docids, and ``store.json`` what made them.

    Args:
        folder: where it lies.
        identity: the student's, see :func:`model_identity`.

    Raises:
        InputError: if the folder holds no vectors, or another student's.
    """

    def __init__(self, folder: str | Path, identity: str) -> None:
        path = Path(folder, STORE_FILE)
        if not path.is_file():
            raise InputError(
                f"{folder}: holds no passage vectors (no {STORE_FILE}); name another --passage_vectors_path"
            )
        made = read_json(path)
        if made["identity"] != identity:
            raise InputError(
                f"{folder}: these passage vectors are of another student ({made['student']}, {made['identity']}), "
                f"or of other weights, precision or lengths; this one is {identity}; remove the folder or name another "
                "--passage_vectors_path"
            )
        self.vectors = np.load(Path(folder, "vectors.npy"), mmap_mode="r")
        self.offsets = np.load(Path(folder, "offsets.npy"))
        digests = np.load(Path(folder, "digests.npy"))
        self.places = {row.tobytes(): place for place, row in enumerate(digests)}

    def __len__(self) -> int:
        return len(self.places)

    def get(self, passage: Passage) -> Tensor | None:
        """A passage's vectors, float16 ``[T, D]`` on the CPU; None where the store does not have them."""
        place = self.places.get(digest(passage))
        if place is None:
            return None
        return torch.from_numpy(np.array(self.vectors[self.offsets[place] : self.offsets[place + 1]]))


def write_store(
    folder: str | Path,
    passages: Sequence[Passage],
    layout: DualLayout,
    identity: str,
    encode: Callable[[Sequence[Passage]], Sequence[Tensor]],
) -> None:
    """Write the vectors of passages; the folder appears whole or not at all.

    Args:
        folder: where they will lie; must not exist.
        passages: distinct texts.
        layout: makes the rows, whose counted tokens are the vectors.
        identity: the student's.
        encode: vectors ``[T, D]`` of some passages.
    """
    folder = Path(folder)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        sizes = [sum(row.counted or [True] * len(row.input_ids)) for row in map(layout.encode_passage, passages)]
        offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        _write_vectors(partial / "vectors.npy", passages, offsets, encode)
        np.save(partial / "offsets.npy", offsets)
        np.save(partial / "digests.npy", np.frombuffer(b"".join(map(digest, passages)), np.uint8).reshape(-1, 16))
        (partial / "docids.json").write_text(json.dumps([passage.docid for passage in passages]), encoding="utf-8")
        said = {"identity": identity, "student": layout.settings.student, "passages": len(passages)}
        (partial / STORE_FILE).write_text(json.dumps({**said, "vectors": int(offsets[-1])}) + "\n", encoding="utf-8")
        for file in partial.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        if not Path(folder, STORE_FILE).is_file():  # else another process was faster
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_vectors(
    path: Path,
    passages: Sequence[Passage],
    offsets: np.ndarray[Any, Any],
    encode: Callable[[Sequence[Passage]], Sequence[Tensor]],
) -> None:
    vectors: np.memmap[Any, Any] | None = None
    for start, block in blocks(passages):
        for place, made in enumerate(encode(block), start):
            if vectors is None:
                shape = (int(offsets[-1]), made.shape[-1])
                vectors = np.lib.format.open_memmap(path, "w+", np.float16, shape)
            vectors[offsets[place] : offsets[place + 1]] = made.half().cpu().numpy()
        logger.info("passage vectors: %d of %d passages", start + len(block), len(passages))
    if vectors is None:
        np.save(path, np.zeros((0, 0), np.float16))
    else:
        vectors.flush()


def blocks(passages: Sequence[Passage]) -> Iterator[tuple[int, Sequence[Passage]]]:
    """Parts of a list, each with the place where it begins."""
    for start in range(0, len(passages), BLOCK):
        yield start, passages[start : start + BLOCK]
