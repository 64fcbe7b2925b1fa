"""Lucene by pyserini: BM25 with or without RM3, and indexes of learned weights (impacts)."""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tevatron_distill.extras import load_package
from tevatron_distill.formats.jsonl import parse_json
from tevatron_distill.progress import progress
from tevatron_distill.retrieval import Found, Reader, Retriever, needed
from tevatron_distill.retrieval.java import environment, refusing, start_java
from tevatron_distill.retrieval.kept import RECORD, check, fingerprint, keep, name_of
from tevatron_distill.schema import InputError, Passage

logger = logging.getLogger(__name__)

WANTED_BY = "--retriever lucene"
ANALYZERS = {
    "arabic": "ar",
    "bengali": "bn",
    "chinese": "zh",
    "danish": "da",
    "dutch": "nl",
    "english": "en",
    "finnish": "fi",
    "french": "fr",
    "german": "de",
    "hindi": "hi",
    "hungarian": "hu",
    "indonesian": "id",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "norwegian": "no",
    "persian": "fa",
    "polish": "pl",
    "portuguese": "pt",
    "russian": "ru",
    "spanish": "es",
    "swedish": "sv",
    "telugu": "te",
    "thai": "th",
    "turkish": "tr",
    "ukrainian": "uk",
}
"""Languages by Anserini's codes."""
# What an index without term vectors keeps its passages' words in, by its name; as pyserini 1.6 has it
RAW_TEXTS = {
    "msmarco-v1": "JsonCollection",
    "msmarco-v2-passage": "MsMarcoV2PassageCollection",
    "msmarco-v2-doc": "MsMarcoV2DocCollection",
}
BATCH_QUERIES = 256
BATCH_PASSAGES = 1000
T = TypeVar("T")


class RM3(NamedTuple):
    """Words of the best passages are added to the query (pseudo-relevance feedback).

    Attributes:
        fb_terms: how many words.
        fb_docs: of how many passages.
        original_query_weight: share of the query's own words, 0..1.

    Source:
        Abdul-Jaleel et al. 2004; defaults of Anserini.
    """

    fb_terms: int = 10
    fb_docs: int = 10
    original_query_weight: float = 0.5


class Lucene(Retriever):
    """A Lucene index in a folder.

    Scores are those of Anserini, with four decimals; equal scores stand by docid.

    Args:
        folder: an index made by Anserini, pyserini or `build_index`.
        language: whose analyzer reads the queries; that of the index.
        k1: BM25: how fast a repeated word stops counting, >= 0.
        b: BM25: how much long passages are held back, 0..1.
        rm3: expand the queries.
        encoder: for an index of impacts, what weighs the query's words; see `load_encoder`. None for BM25.
        threads: that search at the same time; 0 for one a core.
        name: of the prebuilt index in this folder; empty for others.

    Raises:
        InputError: if pyserini or Java is missing, the folder holds no index, or a setting does not fit it.
    """

    def __init__(
        self,
        folder: str | Path,
        language: str = "english",
        k1: float = 0.9,
        b: float = 0.4,
        rm3: RM3 | None = None,
        encoder: str | None = None,
        threads: int = 0,
        name: str = "",
    ) -> None:
        check_settings(language, k1, b, rm3, threads)
        if not any(Path(folder).glob("segments_*")):
            raise InputError(f"{folder}: must be a folder with a Lucene index; it holds none")
        if (Path(folder) / RECORD).is_file():
            check(Path(folder), {"kind": "lucene", "language": language})
            if encoder is not None:
                raise InputError(f"--impact_encoder needs an index of impacts; {folder} holds words")
        self._folder = os.path.abspath(folder)  # Java goes by the folder in which it was started
        self._threads = threads or os.cpu_count() or 1
        self._autoclass = start_java(WANTED_BY)
        with refusing(f"{folder}: must be a Lucene index that can be read"):
            self._searcher: Any = None if encoder is None else load_encoder(encoder, self._folder)
            if self._searcher is None:
                self._index = self._autoclass("io.anserini.search.SimpleSearcher")(self._folder)
                self._index.set_language(ANALYZERS[language])
                self._index.set_bm25(k1, b)
                self._search = self._search_words
            else:
                self._index = self._searcher.object
                self._search = self._search_impacts
        if rm3 is not None:
            self._expand(rm3, language == "english", name)

    def search(self, queries: Mapping[str, str], depth: int) -> Iterator[tuple[str, Found]]:
        """The best passages of each query, by several threads; the answer does not depend on their number."""
        for batch in _batches(queries.items(), BATCH_QUERIES):
            names, texts = zip(*batch, strict=True)
            found = self._search(list(texts), list(names), depth)
            for name in names:
                yield name, [(str(hit.docid), float(hit.score)) for hit in found.get(name) or ()]

    def texts(self, docids: Collection[str]) -> Mapping[str, Passage]:
        """The passages as the index has stored them.

        Raises:
            InputError: if it stores none.
        """
        return {docid: self._text(docid) for docid in docids}

    def _text(self, docid: str) -> Passage:
        document = self._index.doc(docid)
        raw = document and (document.get("raw") or document.get("contents"))
        if not raw:
            raise InputError(
                f'{self._folder}: the index must store texts (Anserini\'s -storeRaw); it has none of docid "{docid}"; '
                "give --corpus_path"
            )
        try:
            row = parse_json(raw)
        except ValueError:
            return Passage(docid, raw)
        if not isinstance(row, dict):
            return Passage(docid, raw)
        text = next((row[key] for key in ("text", "contents", "passage", "body") if isinstance(row.get(key), str)), "")
        return Passage(docid, text, row["title"] if isinstance(row.get("title"), str) else "")

    def _search_words(self, texts: Sequence[str], names: Sequence[str], depth: int) -> Mapping[str, Any]:
        lists = [self._autoclass("java.util.ArrayList")() for _ in range(2)]
        for target, values in zip(lists, (texts, names), strict=True):
            for value in values:
                target.add(value)
        found = self._index.batch_search(*lists, depth, self._threads)
        return {entry.getKey(): entry.getValue() for entry in found.entrySet().toArray()}

    def _search_impacts(self, texts: Sequence[str], names: Sequence[str], depth: int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._searcher.batch_search(texts, names, depth, self._threads)
        return found

    def _expand(self, rm3: RM3, only_english_words: bool, name: str) -> None:
        if self._searcher is not None:  # of impacts
            try:
                self._searcher.set_rm3(*rm3, False, only_english_words)
            except TypeError as error:
                raise InputError(
                    f"--rm3 needs an index that stores vectors or texts; {self._folder} does not"
                ) from error
            return
        source = None
        if not self._index.reader.getTermVectors(0):
            source = next((reader for start, reader in RAW_TEXTS.items() if name.startswith(start)), None)
            if source is None:
                raise InputError(
                    f"--rm3 needs an index that stores term vectors (Anserini's -storeDocvectors); {self._folder} has "
                    "none; give --corpus_path without --index, and one is built"
                )
        self._index.set_rm3(source, *rm3, False, only_english_words)


def build(
    passages: Reader | None,
    beside: Path,
    *,
    index: str | None,
    language: str,
    k1: float,
    b: float,
    rm3: bool,
    fb_terms: int,
    fb_docs: int,
    original_query_weight: float,
    impact_encoder: str | None,
    threads: int,
) -> Lucene:
    """The row ``lucene`` of `RETRIEVERS`: an index that is there, a prebuilt one by its name, or one of the passages.

    Args:
        passages: reads the collection; None where none is named.
        beside: where an index without a name is kept.
        index: folder or name of an index; a folder that is missing is filled with an index of the passages.
        language: as of `Lucene`, like the others.

    Raises:
        InputError: as `Lucene`; also if the index is of other passages, or cannot be had.
    """
    expansion = RM3(fb_terms, fb_docs, original_query_weight) if rm3 else None
    check_settings(language, k1, b, expansion, threads)
    start_java(WANTED_BY)
    folder, name = Path(index or beside), ""
    if index is not None and not folder.exists() and index in prebuilt_names():
        folder, name = download(index, impact_encoder is not None), index
    elif index is None or not folder.exists() or (passages is not None and (folder / RECORD).is_file()):
        if impact_encoder is not None:
            raise InputError(f"--impact_encoder needs --index, the folder or name of an index of impacts; got {index}")
        if index is not None and passages is None:
            raise InputError(_unknown(index))
        read = needed(passages)()
        made_of = {"kind": "lucene", "language": language, "passages": fingerprint(read)}
        folder = folder if index is not None else beside / name_of("lucene", made_of)
        keep(folder, made_of, lambda partial: build_index(partial, read, language, threads))
    return Lucene(folder, language, k1, b, expansion, impact_encoder, threads, name)


def _unknown(index: str) -> str:
    near = difflib.get_close_matches(index, prebuilt_names(), 3)
    return (
        f"--index must be a Lucene folder or the name of one of pyserini's prebuilt indexes; got {index!r}, which is "
        f"neither{'; near it: ' + ', '.join(near) if near else ''}; with --corpus_path an index is built there"
    )


def build_index(folder: Path, passages: Sequence[Passage], language: str = "english", threads: int = 0) -> None:
    """Fill a folder with a Lucene index: title and text as one field, with term vectors and the texts themselves.

    Raises:
        InputError: if pyserini or Java is missing, or the folder cannot be written.
    """
    words = ["-index", os.path.abspath(folder), "-input", "", "-collection", "JsonCollection"]
    words += ["-language", ANALYZERS[language], "-threads", str(threads or os.cpu_count() or 1)]
    words += ["-storePositions", "-storeDocvectors", "-storeRaw"]
    start = start_java(WANTED_BY)
    with refusing(f"{folder}: Lucene must be able to write its index"):
        indexer = start("io.anserini.index.SimpleIndexer")(words)
        with progress(total=len(passages), desc="index", unit="passage") as bar:
            for batch in _batches(passages, BATCH_PASSAGES):
                indexer.addRawDocuments([_as_document(passage) for passage in batch])
                bar.update(len(batch))
        indexer.close()


def _as_document(passage: Passage) -> str:
    contents = f"{passage.title} {passage.text}".strip()
    return json.dumps({"id": passage.docid, "contents": contents, "title": passage.title, "text": passage.text})


def check_settings(language: str, k1: float, b: float, rm3: RM3 | None, threads: int) -> None:
    """Refuse what Lucene has no analyzer for, or no formula.

    Raises:
        InputError: naming the setting.
    """
    if language not in ANALYZERS:
        raise InputError(f"{WANTED_BY} reads a --language of {', '.join(ANALYZERS)}; got {language!r}")
    if k1 < 0 or not 0 <= b <= 1:
        raise InputError(f"BM25 needs k1 >= 0 and b in 0..1; got k1 {k1}, b {b}")
    if rm3 is not None and (rm3.fb_terms < 1 or rm3.fb_docs < 1 or not 0 <= rm3.original_query_weight <= 1):
        raise InputError(f"--rm3 needs fb_terms and fb_docs from 1 and original_query_weight in 0..1; got {rm3}")
    if threads < 0:
        raise InputError(f"--threads must be at least 0; got {threads}")


def load_encoder(encoder: str, folder: str) -> Any:
    """pyserini's searcher of an index of impacts.

    Args:
        encoder: ``words`` counts the query's words as they stand between spaces; a ``.jsonl`` of encoded queries; or
            the name or folder of a model whose name says what it is (splade, unicoil, slim).
        folder: of the index.

    Raises:
        InputError: if the encoder cannot be loaded, or its name does not say what it is.
    """
    known = ("unicoil", "splade", "slim")
    if encoder != "words" and not Path(encoder).is_file() and not any(kind in encoder.lower() for kind in known):
        raise InputError(
            f"--impact_encoder must be words, a .jsonl of encoded queries, or a model with {', '.join(known)} in its "
            f"name; got {encoder!r}"
        )
    # pyserini 1.6 makes a client of OpenAI as it is imported, which wants a key that it never uses here
    with environment(OPENAI_API_KEY=os.environ.get("OPENAI_API_KEY", "unused")):
        searcher = load_package("pyserini.search.lucene", "--impact_encoder").LuceneImpactSearcher
    try:
        return searcher(folder, None if encoder == "words" else encoder)
    except (OSError, ValueError) as error:
        raise InputError(f"--impact_encoder {encoder}: the query encoder must be loadable; got {error}") from error


def prebuilt_names() -> dict[str, bool]:
    """Names of the indexes that pyserini downloads, each with whether it holds impacts."""
    info = importlib.import_module("pyserini.prebuilt_index_info")
    return {**dict.fromkeys(info.TF_INDEX_INFO, False), **dict.fromkeys(info.IMPACT_INDEX_INFO, True)}


def download(name: str, with_encoder: bool) -> Path:
    """The folder of a prebuilt index, downloaded where pyserini's cache has none.

    Args:
        name: one of `prebuilt_names`.
        with_encoder: it is to be searched by impacts.

    Raises:
        InputError: if it cannot be had, or is of the other kind.
    """
    if prebuilt_names()[name] != with_encoder:
        raise InputError(
            f"--index {name} holds {'words, not impacts; drop' if with_encoder else 'impacts; give'} --impact_encoder"
        )
    try:
        return Path(load_package("pyserini.util", WANTED_BY).download_prebuilt_index(name, verbose=False))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--index {name}: this prebuilt index could not be downloaded ({error}); where there is no network, "
            "download it elsewhere (pyserini keeps it in ~/.cache/pyserini/indexes) and give its folder as --index"
        ) from error


def _batches(items: Collection[T], size: int) -> Iterator[list[T]]:
    every = iter(items)
    while batch := list(islice(every, size)):
        yield batch
