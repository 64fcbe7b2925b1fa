"""BM25 over titles and texts, by bm25s, with Snowball stemming."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import bm25s
import numpy as np
import Stemmer

from tevatron_distill.retrieval import Found, Reader, Retriever, needed
from tevatron_distill.schema import InputError, Passage

STOPWORD_LANGUAGES = (
    "chinese",
    "danish",
    "dutch",
    "english",
    "french",
    "german",
    "italian",
    "korean",
    "norwegian",
    "portuguese",
    "russian",
    "spanish",
    "swedish",
    "turkish",
)
LANGUAGES = tuple(sorted({*STOPWORD_LANGUAGES, *Stemmer.algorithms(), "japanese"}))
STEMMERS = ("auto", "none", *sorted(Stemmer.algorithms()))
# Han, Kana and their extensions: scripts without spaces, which the word pattern would take for one long word.
UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fa1f]+")


class BM25(Retriever):
    """An index of passages in memory.

    Scores are Lucene's (no factor k1 + 1), summed in single precision in the order of the query's words, by one
    thread, so that they are the same on every run. Equal scores stand in the order of the collection. Chinese and
    Japanese are indexed by overlapping pairs of characters, as Lucene does.

    Args:
        passages: the collection; title and text are indexed as one text.
        language: whose stopwords are left out, where bm25s has a list.
        stemmer: a Snowball algorithm; ``auto`` for the one of ``language`` where there is one, ``none`` for none.
        k1: how fast a repeated word stops counting, >= 0.
        b: how much long passages are held back, 0..1.

    Raises:
        InputError: if language, stemmer, k1 or b is out of range, or no passage holds a word.

    Source:
        Robertson and Zaragoza 2009; Lù 2024 (bm25s, arXiv 2407.03618); k1 and b as Anserini's defaults.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        language: str = "english",
        stemmer: str = "auto",
        k1: float = 0.9,
        b: float = 0.4,
    ) -> None:
        if language not in LANGUAGES:
            raise InputError(f"language must be one of {', '.join(LANGUAGES)}; got {language!r}")
        if stemmer not in STEMMERS:
            raise InputError(f"stemmer must be one of {', '.join(STEMMERS)}; got {stemmer!r}")
        if k1 < 0 or not 0 <= b <= 1:
            raise InputError(f"BM25 needs k1 >= 0 and b in 0..1; got k1 {k1}, b {b}")
        if stemmer == "auto":
            stemmer = language if language in Stemmer.algorithms() else "none"
        self._stopwords = language if language in STOPWORD_LANGUAGES else []
        self._stemmer = None if stemmer == "none" else Stemmer.Stemmer(stemmer)
        self._docids = [passage.docid for passage in passages]
        words = self._words(f"{passage.title} {passage.text}" for passage in passages)
        if not any(words):
            raise InputError("a BM25 index needs a passage with a word; got none")
        self._index = bm25s.BM25(method="lucene", k1=k1, b=b, backend="numpy")
        self._index.index(words, create_empty_token=False, show_progress=False)

    def search(self, queries: Mapping[str, str], depth: int) -> Iterator[tuple[str, Found]]:
        """The best passages that share a word with each query; see `best`."""
        for query_id, query in queries.items():
            yield query_id, self.best(query, depth)

    def best(self, query: str, depth: int) -> Found:
        """The best passages that share a word with the query.

        Args:
            query: its text.
            depth: how many at most.

        Returns:
            docids and scores, best first; empty where nothing matches.
        """
        words = self._index.get_tokens_ids(self._words([query])[0])
        if not words:
            return []
        scores = self._index.get_scores_from_ids(words)
        matching = np.flatnonzero(scores > 0)
        if len(matching) > depth:
            lowest = np.partition(scores, len(scores) - depth)[len(scores) - depth]
            matching = np.flatnonzero(scores >= lowest)
        best = matching[np.argsort(-scores[matching], kind="stable")][:depth]
        return [(self._docids[position], float(scores[position])) for position in best]

    def _words(self, texts: Iterable[str]) -> list[list[str]]:
        spaced = [UNSPACED.sub(_pairs, text) for text in texts]
        words: list[list[str]] = bm25s.tokenize(
            spaced,
            stopwords=self._stopwords,
            stemmer=self._stemmer,
            return_ids=False,
            show_progress=False,
        )
        # bm25s gives some texts without words the word "", which would match other texts without words
        return [[word for word in text if word] for text in words]


def build(passages: Reader | None, beside: Path, language: str, stemmer: str, k1: float, b: float) -> BM25:
    """The row ``bm25`` of `RETRIEVERS`: an index that lives as long as the run."""
    return BM25(needed(passages)(), language, stemmer, k1, b)


def _pairs(run: re.Match[str]) -> str:
    text = run.group()
    return f" {' '.join(text[place : place + 2] for place in range(max(1, len(text) - 1)))} "
