"""BM25 against Anserini's regression figures: a plain implementation comes to them with Lucene's analyser and lengths,
and to our scores with ours. What stands between the two figures is how words are cut, not how they are scored."""

from __future__ import annotations

import math
import re
import zipfile
from collections import Counter, defaultdict

import pytest
import Stemmer
import yaml
from bm25s.stopwords import STOPWORDS_EN

from tevatron_distill.formats.collections import read_passages, read_queries
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.metrics import evaluate
from tevatron_distill.retrieval.bm25 import BM25

LUCENES_STOPWORDS = re.findall(
    r"\w+",
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with",
)

# Ours leaves out words of one letter and takes Snowball's English stemmer; Lucene's EnglishAnalyzer keeps them, keeps
# numbers with points whole, takes the 's from the end of a word, and Porter's stemmer.
ANALYSERS = {
    "ours": (r"\b\w\w+\b", frozenset(STOPWORDS_EN), "english"),
    "lucene": (r"\w+(?:[.'’]\w+)*", frozenset(LUCENES_STOPWORDS), "porter"),
}


def kept_length(length):
    """What Lucene keeps of a passage's length in one byte: four bits of it."""
    if length < 24 + 8:
        return length
    shift = (length - 24).bit_length() - 4
    return 24 + ((length - 24) >> shift << shift)


def plain_bm25(passages, queries, analyser, k1=0.9, b=0.4):
    """Every score above 0, by Lucene's formula in double precision."""
    pattern, stopwords, algorithm = ANALYSERS[analyser]
    word, stem = re.compile(pattern), Stemmer.Stemmer(algorithm).stemWords

    def terms(text):
        found = word.findall(text.lower())
        if analyser == "lucene":
            found = [re.sub("['’]s$", "", one) for one in found]
        return stem([one for one in found if one not in stopwords])

    counts = [Counter(terms(f"{passage.title} {passage.text}")) for passage in passages]
    lengths = [sum(count.values()) for count in counts]
    average = sum(lengths) / len(lengths)
    if analyser == "lucene":
        lengths = [kept_length(length) for length in lengths]
    postings = defaultdict(list)
    for place, count in enumerate(counts):
        for term, frequency in count.items():
            postings[term].append((place, frequency))
    for query_id, query in queries.items():
        scores = defaultdict(float)
        for term in terms(query):
            found = postings.get(term, [])
            inverse = math.log(1 + (len(counts) - len(found) + 0.5) / (len(found) + 0.5))
            for place, frequency in found:
                scores[place] += inverse * frequency / (frequency + k1 * (1 - b + b * lengths[place] / average))
        yield query_id, {passages[place].docid: score for place, score in scores.items()}


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["nfcorpus", "scifact"])
def test_words_alone_stand_between_our_figures_and_anserinis(data_dir, tmp_path, name):
    with zipfile.ZipFile(data_dir / name / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / name
    passages, queries = list(read_passages(folder)), read_queries(folder, split="test")
    qrels = read_qrels(folder / "qrels" / "test.tsv")
    published = yaml.safe_load((data_dir / "expected_metrics" / f"beir-v1.0.0-{name}.flat.yaml").read_text())
    [model] = [model for model in published["models"] if model["name"] == "bm25"]
    with_lucenes = dict(plain_bm25(passages, queries, "lucene"))
    figures = evaluate(with_lucenes, qrels, ["nDCG@10", "R@100"]).mean
    for measure, value in figures.items():
        assert value == pytest.approx(model["results"][measure][0], abs=0.002)
    index = BM25(passages)
    with_ours = dict(plain_bm25(passages, queries, "ours"))
    for query_id, query in queries.items():
        for docid, score in index.best(query, 100):
            assert with_ours[query_id][docid] == pytest.approx(score, rel=1e-4, abs=1e-5)
    ours = {query_id: dict(index.best(query, 100)) for query_id, query in queries.items()}
    plain = evaluate(with_ours, qrels, ["nDCG@10", "R@100"]).mean
    found = evaluate(ours, qrels, ["nDCG@10", "R@100"]).mean
    assert found == pytest.approx(plain, abs=1e-4)
    for measure, value in found.items():
        assert value == pytest.approx(model["results"][measure][0], abs=0.015)
