"""driver.retrieve --retriever dense, without faiss."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tevatron_distill.driver.retrieve import main
from tevatron_distill.formats import load_candidates
from tevatron_distill.formats.collections import read_passages, read_queries
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import evaluate
from tevatron_distill.retrieval import dense, vectors
from tevatron_distill.retrieval.encoders import TransformerEncoder
from tevatron_distill.schema import InputError

PASSAGES = [
    ("d1", "Colours", "red green blue"),
    ("d2", "", "the cat sat on the mat and looked at the dog"),
    ("twin", "", "one two three"),
    ("d3", "Numbers", "four five six seven eight"),
    ("d4", "", "one two three"),
]
QUERIES = {"q1": "red", "q2": "what is a dog", "q3": "one two three"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(PASSAGES)
    Path("queries.tsv").write_text("".join(f"{query_id}\t{query}\n" for query_id, query in QUERIES.items()))
    return tmp_path


def write_corpus(passages):
    rows = [json.dumps({"docid": docid, "title": title, "text": text}) for docid, title, text in passages]
    Path("corpus.jsonl").write_text("\n".join(rows) + "\n")


def retrieve(bert_folder, output, *words, corpus=True):
    main(
        [
            *(["--corpus_path", "corpus.jsonl"] if corpus else []),
            *("--queries_path", "queries.tsv", "--output_path", output, "--retriever", "dense"),
            *("--encoder_name_or_path", str(bert_folder), "--pooling", "mean", "--normalize", *words),
        ]
    )
    return read_run(output)


def plain_vector(bert_folder, text):
    tokenizer, model = AutoTokenizer.from_pretrained(bert_folder), AutoModel.from_pretrained(bert_folder)
    with torch.no_grad():
        vector = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
    return vector / np.linalg.norm(vector)


@pytest.fixture
def no_passage_may_be_encoded(monkeypatch):
    def make():
        encode = TransformerEncoder.encode

        def only_queries(self, texts, side):
            assert side == "query"
            return encode(self, texts, side)

        monkeypatch.setattr(TransformerEncoder, "encode", only_queries)

    return make


def test_a_run_is_the_order_of_the_cosines_and_twins_stand_as_in_the_collection(folder, bert_folder):
    run = retrieve(bert_folder, "run.trec", "--depth", "4", "--rerank_input_path", "rows.jsonl")
    texts = {docid: f"{title} {text}".strip() for docid, title, text in PASSAGES}
    kept = {docid: plain_vector(bert_folder, text).astype(np.float16) for docid, text in texts.items()}
    for query_id, query in QUERIES.items():
        wanted = plain_vector(bert_folder, query)
        cosines = {docid: float(vector.astype(np.float64) @ wanted) for docid, vector in kept.items()}
        assert run[query_id] == pytest.approx({docid: cosines[docid] for docid in run[query_id]}, rel=1e-3, abs=1e-3)
        assert list(run[query_id]) == sorted(cosines, key=lambda docid: -cosines[docid])[:4]
    places = list(run["q3"])
    assert places.index("d4") == places.index("twin") + 1
    assert [len(row.passages) for row in load_candidates("rows.jsonl")] == [4, 4, 4]


def test_vectors_are_kept_beside_the_output_and_used_again(folder, bert_folder, no_passage_may_be_encoded):
    first = retrieve(bert_folder, "out/one.trec")
    [kept] = folder.glob("out/dense-*")
    assert sorted(path.name for path in kept.iterdir()) == ["docids.json", "index.json", "vectors.npy"]
    no_passage_may_be_encoded()
    assert retrieve(bert_folder, "out/two.trec", "--query_prefix", "") == first
    assert retrieve(bert_folder, "out/three.trec", "--query_prefix", "query: ") != first


def test_vectors_of_other_things_are_made_anew_or_refused(folder, bert_folder):
    retrieve(bert_folder, "one.trec")
    retrieve(bert_folder, "two.trec", "--passage_prefix", "passage: ")
    assert len(list(folder.glob("dense-*"))) == 2
    retrieve(bert_folder, "three.trec", "--index", "kept")
    with pytest.raises(InputError, match=r"kept: the index must be made of the same passage_max_len; it has .* 128"):
        retrieve(bert_folder, "four.trec", "--index", "kept", "--passage_max_len", "64")
    write_corpus(PASSAGES[:-1])
    with pytest.raises(InputError, match="kept: the index must be made of the same collection"):
        retrieve(bert_folder, "four.trec", "--index", "kept")
    assert not Path("four.trec").exists()


def test_a_finished_index_is_searched_without_its_collection(folder, bert_folder):
    first = retrieve(bert_folder, "one.trec", "--index", "kept")
    Path("corpus.jsonl").unlink()
    assert retrieve(bert_folder, "two.trec", "--index", "kept", corpus=False) == first
    with pytest.raises(InputError, match="one of --corpus_path and --corpus_data_name is needed"):
        retrieve(bert_folder, "three.trec", "--index", "missing", corpus=False)
    with pytest.raises(InputError, match="made of the same pooling"):
        retrieve(bert_folder, "three.trec", "--index", "kept", "--pooling", "cls", corpus=False)


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(folder, bert_folder, monkeypatch):
    monkeypatch.setattr(vectors, "BLOCK", 2)
    whole = retrieve(bert_folder, "one.trec", "--index", "whole")
    encode = TransformerEncoder.encode
    sides = []

    def interrupted(self, texts, side):
        sides.append(side)
        if len(sides) == 3:
            raise KeyboardInterrupt
        return encode(self, texts, side)

    monkeypatch.setattr(TransformerEncoder, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        retrieve(bert_folder, "two.trec", "--index", "part")
    assert not Path("part").exists()
    with pytest.raises(InputError, match=r"part\.partial: the index must be made of the same pooling"):
        retrieve(bert_folder, "two.trec", "--index", "part", "--pooling", "cls")
    sides.extend("....")
    assert retrieve(bert_folder, "two.trec", "--index", "part") == whole
    assert sides[3:] == [*"....", "passage", "query"]
    assert Path("part/vectors.npy").read_bytes() == Path("whole/vectors.npy").read_bytes()


def test_blocks_of_queries_answer_as_one(folder, bert_folder, monkeypatch):
    whole = retrieve(bert_folder, "one.trec")
    monkeypatch.setattr(dense, "QUERIES", 2)
    assert retrieve(bert_folder, "two.trec") == whole


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--retriever", "dense"], "--retriever dense needs --encoder_name_or_path"),
        (["--encoder_name_or_path", "x"], "--encoder_name_or_path is for --retriever dense; got it with bm25"),
        (["--retriever", "dense", "--encoder_name_or_path", "x", "--k1", "1"], "--k1 is for --retriever bm25"),
        (["--retriever", "dense", "--encoder_name_or_path", "nothing"], "nothing: no model config could be read"),
        (["--retriever", "dense", "--passage_max_len", "0"], "--passage_max_len must be at least 1; got 0"),
        (["--retriever", "dense", "--batch_tokens", "many"], "--batch_tokens must be auto or a number"),
        (
            ["--retriever", "dense", "--encoder_name_or_path", "x", "--hnsw_m", "8"],
            "--hnsw_m is for --faiss_index hnsw; got it with exact search",
        ),
        (
            ["--retriever", "dense", "--encoder_name_or_path", "x", "--pq_m", "8", "--faiss_index", "hnsw"],
            "--pq_m is for --faiss_index ivfpq; got it with hnsw",
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused(folder, words, message):
    with pytest.raises(InputError, match=message):
        main(["--corpus_path", "corpus.jsonl", "--queries_path", "queries.tsv", "--output_path", "out", *words])


def test_an_index_of_faiss_without_faiss_names_the_extra(folder, bert_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"--faiss_index hnsw needs faiss: pip install .*\[faiss\]"):
        retrieve(bert_folder, "out", "--faiss_index", "hnsw")


def test_the_table_of_retrievers_needs_no_torch():
    program = (
        "import sys, tevatron_distill.retrieval.encoder_settings, tevatron_distill.arguments.retrieve\n"
        "print(*(name for name in ('torch', 'transformers', 'faiss', 'sentence_transformers') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(1800)
def test_minilm_reaches_its_library_on_nfcorpus(data_dir, minilm_folder, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import semantic_search

    with zipfile.ZipFile(data_dir / "nfcorpus" / "nfcorpus.zip") as archive:
        archive.extractall(tmp_path)
    corpus = tmp_path / "nfcorpus"
    words = ["--corpus_path", str(corpus), "--queries_path", str(corpus), "--query_data_split", "test"]
    output = tmp_path / "run.trec"
    main([*words, "--output_path", str(output), "--retriever", "dense", "--encoder_name_or_path", str(minilm_folder)])
    qrels = read_qrels(corpus / "qrels" / "test.tsv")
    passages, queries = read_passages(corpus), read_queries(corpus, split="test")
    model = SentenceTransformer(str(minilm_folder), device="cpu")
    [kept] = tmp_path.glob("dense-*/vectors.npy")
    made = np.load(kept)
    sample = range(0, len(passages), 40)
    texts = [f"{passages[place].title} {passages[place].text}".strip() for place in sample]
    np.testing.assert_allclose(made[sample].astype(np.float32), model.encode(texts), rtol=0, atol=2**-11 + 1e-4)
    hits = semantic_search(model.encode(list(queries.values())), made.astype(np.float32), top_k=100)
    theirs = {
        query_id: {passages[hit["corpus_id"]].docid: hit["score"] for hit in found}
        for query_id, found in zip(queries, hits, strict=True)
    }
    figures = [evaluate(run, qrels, ["nDCG@10"]).mean["nDCG@10"] for run in (read_run(output), theirs)]
    assert figures[0] == pytest.approx(figures[1], abs=1e-3)
    assert figures[0] == pytest.approx(0.3159, abs=2e-3)
