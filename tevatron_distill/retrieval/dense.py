"""Dense retrieval: the passages whose vectors have the highest inner products with the query's."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tevatron_distill.extras import require_package
from tevatron_distill.formats.jsonl import read_json
from tevatron_distill.prompts import render_passage
from tevatron_distill.retrieval import Found, Reader, Retriever, needed
from tevatron_distill.retrieval.encoder_settings import EncoderSettings
from tevatron_distill.retrieval.encoders import Encoder, EncoderOptions, encoding_device, load_encoder
from tevatron_distill.retrieval.faiss_index import FaissIndex, FaissSettings
from tevatron_distill.retrieval.kept import check, fingerprint, keep, name_of
from tevatron_distill.retrieval.nearest import SPARE, nearest, scored
from tevatron_distill.retrieval.vectors import DOCIDS_FILE, Vectors, read_vectors, write_vectors
from tevatron_distill.schema import InputError, Passage

logger = logging.getLogger(__name__)

QUERIES = 512
"""Queries that are searched in one pass over the collection."""


class Dense(Retriever):
    """The vectors of a collection, and the encoder of its queries.

    Scores are inner products of the query's vector with the passage's as it is kept, in float16. Equal scores stand in
    the order of the collection.

    Args:
        encoder: of queries.
        docids: of the passages.
        vectors: of the passages, float16 ``[N, D]``.
        index: finds candidates; None to look at all passages.
    """

    def __init__(
        self, encoder: Encoder, docids: Sequence[str], vectors: Vectors, index: FaissIndex | None = None
    ) -> None:
        self._encoder = encoder
        self._docids = docids
        self._vectors = vectors
        self._index = index

    def search(self, queries: Mapping[str, str], depth: int) -> Iterator[tuple[str, Found]]:
        """The best passages of each query."""
        rows = list(queries.items())
        for start in range(0, len(rows), QUERIES):
            block = rows[start : start + QUERIES]
            wanted = self._encoder.encode([query for _, query in block], "query")
            if self._index is None:
                positions = nearest(self._vectors, wanted, depth + SPARE, encoding_device())
            else:
                positions = self._index.nearest(wanted, depth)
            for (query_id, _), vector, places in zip(block, wanted, positions, strict=True):
                found = scored(self._vectors, vector, places, depth)
                yield query_id, [(self._docids[place], score) for place, score in found]


def build(
    passages: Reader | None,
    beside: Path,
    *,
    encoder_name_or_path: str | None,
    index: str | None = None,
    faiss_index: str | None = None,
    **settings: Any,
) -> Dense:
    """The row ``dense`` of `RETRIEVERS`: vectors are made where they are not kept from an earlier run.

    Args:
        passages: the collection; None is enough where ``index`` names a folder that is finished.
        beside: where the folder of the vectors stands if ``index`` does not name it.
        encoder_name_or_path: what makes vectors.
        index: folder of the vectors, and of faiss' indexes.
        faiss_index: kind of index; None for exact search, without faiss.
        settings: fields of `EncoderSettings`, `EncoderOptions` and `FaissSettings`.

    Raises:
        InputError: if a setting is out of range, a library is missing, or the folder holds another index.
    """
    if encoder_name_or_path is None:
        raise InputError(
            "--retriever dense needs --encoder_name_or_path: a folder or name of sentence-transformers, or of a model"
        )
    faiss_settings = _faiss_settings(faiss_index, settings)
    budget = settings.pop("batch_tokens", "auto")
    options = EncoderOptions(
        batch_tokens=None if budget == "auto" else int(budget), **_fields_of(EncoderOptions, settings)
    )
    asked = EncoderSettings(**_fields_of(EncoderSettings, settings))
    encoder = load_encoder(
        encoder_name_or_path, replace(asked, append_eos_token=asked.append_eos_token or None), options
    )
    if passages is None and index is not None and Path(index).is_dir():
        folder = Path(index)
        check(folder, encoder.made_of())
        docids = read_json(folder / DOCIDS_FILE)
    else:
        collection = needed(passages)()
        docids = [passage.docid for passage in collection]
        folder = _keep_vectors(collection, encoder, beside, index)
    vectors = read_vectors(folder, len(docids), encoder.dimension)
    searched = None if faiss_settings is None else FaissIndex(folder, vectors, faiss_settings)
    return Dense(encoder, docids, vectors, searched)


def _keep_vectors(collection: Sequence[Passage], encoder: Encoder, beside: Path, index: str | None) -> Path:
    made_of = {"collection": fingerprint(collection), **encoder.made_of()}
    folder = beside / name_of("dense", made_of) if index is None else Path(index)

    def encode(block: Sequence[Passage]) -> Vectors:
        return encoder.encode([render_passage(passage, "tevatron") for passage in block], "passage")

    keep(folder, made_of, lambda partial: write_vectors(partial, collection, encoder.dimension, encode), resumes=True)
    return folder


def _faiss_settings(kind: str | None, settings: Mapping[str, Any]) -> FaissSettings | None:
    """The index that is asked for; flags of another kind would change nothing."""
    values = {name: value for name, value in _fields_of(FaissSettings, settings).items() if value is not None}
    own = {"hnsw": ("hnsw_",), "ivfpq": ("ivf_", "pq_")}.get(kind or "", ())
    defaults = {field.name: field.default for field in fields(FaissSettings)}
    stray = [name for name, value in values.items() if not name.startswith(own) and value != defaults[name]]
    if stray:
        wanted = "hnsw" if stray[0].startswith("hnsw_") else "ivfpq"
        raise InputError(f"--{stray[0]} is for --faiss_index {wanted}; got it with {kind or 'exact search'}")
    if kind is None:
        return None
    require_package("faiss", f"--faiss_index {kind}")
    return FaissSettings(kind, **values)


def _fields_of(kind: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: settings[field.name] for field in fields(kind) if field.name in settings}
