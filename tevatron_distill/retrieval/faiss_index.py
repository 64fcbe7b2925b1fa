"""Approximate search by faiss, its indexes saved beside the vectors; the one file that knows the library."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tevatron_distill.extras import load_package
from tevatron_distill.formats.disk import writing
from tevatron_distill.progress import progress
from tevatron_distill.retrieval.encoder_settings import FAISS_INDEXES
from tevatron_distill.retrieval.nearest import SPARE, Positions
from tevatron_distill.retrieval.vectors import Vectors
from tevatron_distill.schema import InputError

logger = logging.getLogger(__name__)

CODES = 256
"""Values of a code of eight bits, each learned from the passages."""
POINTS_PER_LIST = 64
"""Passages from which the centre of a list is learned; faiss wants 39 at least."""
REFINED = 4
"""So many times the depth are found by codes, and ordered by their vectors."""
ADDED = 65536
"""Passages that are added together."""
MOST_ON_GPU = 2048
"""Passages a query that faiss finds on a GPU."""


@dataclass(frozen=True)
class FaissSettings:
    """Which index, and how it trades time for recall.

    Attributes:
        kind: one of `FAISS_INDEXES`: all vectors (``flat``), a graph of neighbours (``hnsw``), or lists of codes
            (``ivfpq``), in a sixteenth of float32's memory.
        hnsw_m: neighbours of a node; more: better, larger.
        hnsw_ef_construction: nodes looked at for each one that is added.
        hnsw_ef_search: nodes looked at for each query, at least the depth.
        ivf_nlist: lists; None for four times the root of the number of passages.
        ivf_nprobe: lists looked at for each query.
        pq_m: codes (bytes) of a vector; None for an eighth of its length.
    """

    kind: str
    hnsw_m: int = 32
    hnsw_ef_construction: int = 200
    hnsw_ef_search: int = 128
    ivf_nlist: int | None = None
    ivf_nprobe: int = 32
    pq_m: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAISS_INDEXES:
            raise InputError(f"--faiss_index must be one of {', '.join(FAISS_INDEXES)}; got {self.kind!r}")
        if self.hnsw_m < 2:
            raise InputError(f"--hnsw_m must be at least 2; got {self.hnsw_m}")
        for name in ("hnsw_ef_construction", "hnsw_ef_search", "ivf_nlist", "ivf_nprobe", "pq_m"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} must be at least 1; got {value}")

    def num_lists(self, num: int) -> int:
        """Lists of an index of so many passages."""
        return self.ivf_nlist or max(1, min(int(4 * math.sqrt(num)), num // POINTS_PER_LIST))

    def num_codes(self, dimension: int) -> int:
        """Codes of a vector.

        Raises:
            InputError: if they do not part it evenly.
        """
        if self.pq_m is None:
            return next(codes for codes in range(max(1, dimension // 8), 0, -1) if dimension % codes == 0)
        if dimension % self.pq_m:
            raise InputError(f"--pq_m must part the {dimension} numbers of a vector evenly; got {self.pq_m}")
        return self.pq_m

    def recipe(self, num: int, dimension: int) -> str:
        """The index as faiss' factory writes it."""
        if self.kind == "hnsw":
            return f"HNSW{self.hnsw_m},Flat"
        if self.kind == "ivfpq":
            return f"IVF{self.num_lists(num)},PQ{self.num_codes(dimension)}x8"
        return "Flat"

    def file_name(self, num: int, dimension: int) -> str:
        """Of the saved index: it says all that a search cannot change."""
        recipe = self.recipe(num, dimension).lower().replace(",", "-")
        return f"{recipe}-{self.hnsw_ef_construction}.faiss" if self.kind == "hnsw" else f"{recipe}.faiss"


class FaissIndex:
    """An index over the vectors of a collection, built where it is missing.

    Args:
        folder: where it is saved, that of the vectors.
        vectors: float16 ``[N, D]``.
        settings: which index.

    Raises:
        InputError: if faiss is missing, the collection is too small to learn codes from, or the saved index is of
            another collection.
    """

    def __init__(self, folder: Path, vectors: Vectors, settings: FaissSettings) -> None:
        self._faiss = load_package("faiss", f"--faiss_index {settings.kind}")
        self._settings = settings
        path = folder / settings.file_name(*vectors.shape)
        if path.is_file():
            self._index = self._read(path, vectors)
        else:
            self._index = self._build(vectors)
            self._save(path)
        if settings.kind == "ivfpq":
            self._index.nprobe = settings.ivf_nprobe
        self._on_gpu = self._to_gpu()

    def nearest(self, queries: npt.NDArray[np.float32], depth: int) -> Positions:
        """Passages among which the best of each query are likely to be.

        Args:
            queries: float32 ``[Q, D]``.
            depth: how many are wanted; more are found.

        Returns:
            Positions ``[Q, K]``, -1 where there is none.
        """
        count = depth * REFINED if self._settings.kind == "ivfpq" else depth + SPARE
        count = min(count, self._index.ntotal)
        if self._settings.kind == "hnsw":
            self._index.hnsw.efSearch = max(self._settings.hnsw_ef_search, count)
        index = self._index if self._on_gpu is None or count > MOST_ON_GPU else self._on_gpu
        positions: Positions = index.search(queries, count)[1]
        return positions

    def _build(self, vectors: Vectors) -> Any:
        num, dimension = vectors.shape
        recipe = self._settings.recipe(num, dimension)
        index = self._faiss.index_factory(dimension, recipe, self._faiss.METRIC_INNER_PRODUCT)
        if self._settings.kind == "hnsw":
            index.hnsw.efConstruction = self._settings.hnsw_ef_construction
        if self._settings.kind == "ivfpq":
            self._train(index, vectors)
        with progress(total=num, desc=recipe, unit="passage") as bar:
            for start in range(0, num, ADDED):
                index.add(_single(vectors[start : start + ADDED]))
                bar.update(min(ADDED, num - start))
        return index

    def _train(self, index: Any, vectors: Vectors) -> None:
        num = len(vectors)
        needed = max(CODES, index.nlist)
        if num < needed:
            raise InputError(
                f"--faiss_index ivfpq learns {CODES} codes and {index.nlist} lists from as many passages at least; got "
                f"{num}; leave --faiss_index out: so few are searched at once"
            )
        index.do_polysemous_training = False  # ninety-six of a hundred seconds, for a filter that is not used
        for part in (index.cp, index.pq.cp):
            part.min_points_per_centroid = 1  # else faiss complains of small collections on stderr
        size = min(num, POINTS_PER_LIST * needed)
        sample = np.sort(np.random.default_rng(0).choice(num, size, replace=False))
        logger.info("faiss learns %d lists and their codes from %d passages", index.nlist, size)
        index.train(_single(vectors[sample]))

    def _save(self, path: Path) -> None:
        fresh = path.with_name(f"{path.name}.tmp")
        with writing(path):
            try:
                self._faiss.write_index(self._index, str(fresh))
            except RuntimeError as error:  # how faiss says that a disk is full
                fresh.unlink(missing_ok=True)
                raise InputError(f"{path}: the index could not be written; got {error}") from error
            os.replace(fresh, path)

    def _read(self, path: Path, vectors: Vectors) -> Any:
        try:
            index = self._faiss.read_index(str(path))
        except RuntimeError as error:
            raise InputError(f"{path}: must be an index of faiss; got {error}; delete it") from error
        if (index.ntotal, index.d) != vectors.shape:
            raise InputError(
                f"{path}: must be of {vectors.shape[0]} passages and {vectors.shape[1]} numbers each; got "
                f"{index.ntotal} and {index.d}; delete it"
            )
        logger.info("%s: the index is used again", path)
        return index

    def _to_gpu(self) -> Any:
        """The index on the GPU, where faiss and the machine have that; graphs stay on the CPU."""
        if not self._faiss.get_num_gpus() or self._settings.kind == "hnsw":
            return None
        options = self._faiss.GpuMultipleClonerOptions()
        options.useFloat16 = self._settings.kind == "ivfpq"  # else its tables do not fit
        try:
            return self._faiss.index_cpu_to_all_gpus(self._index, options)
        except RuntimeError as error:
            logger.warning("faiss cannot search this index on a GPU, and does so on the CPU: %s", error)
            return None


def _single(vectors: Vectors) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(vectors, dtype=np.float32)
