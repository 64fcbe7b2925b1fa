"""Lucene in a real Java machine: ``pytest -m retrieval``."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import zipfile

import pytest
import yaml

from tevatron_distill.driver.retrieve import main
from tevatron_distill.extras import is_installed, pip_command
from tevatron_distill.formats import load_candidates
from tevatron_distill.formats.collections import read_passages, read_queries
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import evaluate
from tevatron_distill.retrieval.bm25 import BM25
from tevatron_distill.retrieval.java import choose_java, start_java
from tevatron_distill.retrieval.lucene import RM3, Lucene, build_index
from tevatron_distill.schema import InputError, Passage

pytestmark = pytest.mark.retrieval

TEXTS = ["red red green", "green blue", "blue blue blue yellow", "yellow", "pink purple red"]
PASSAGES = [Passage(f"d{number}", text) for number, text in enumerate(TEXTS)]
TOUCHED = ("JAVA_HOME", "JVM_PATH", "PATH", "OPENAI_API_KEY", "CLASSPATH")


@pytest.fixture(autouse=True, scope="module")
def lucene_is_here():
    """Skip, saying why, where pyserini or a Java is missing; the environment must be left as it was."""
    if not is_installed("pyserini"):
        pytest.skip(f"pyserini is not installed: {pip_command('pyserini')}")
    try:
        choose_java("this test")
    except InputError as error:
        pytest.skip(str(error))
    before = {name: os.environ.get(name) for name in TOUCHED}
    yield
    assert {name: os.environ.get(name) for name in TOUCHED} == before


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    build_index(folder, PASSAGES)
    return folder


def best(lucene, query, depth=10):
    [(_, found)] = lucene.search({"q": query}, depth)
    return found


def expected(word, passage, k1=0.9, b=0.4):
    lists = [text.split() for text in TEXTS]
    average = sum(len(words) for words in lists) / len(lists)
    frequency = lists[passage].count(word)
    holding = sum(word in words for words in lists)
    inverse = math.log(1 + (len(lists) - holding + 0.5) / (holding + 0.5))
    return inverse * frequency / (frequency + k1 * (1 - b + b * len(lists[passage]) / average))


@pytest.mark.parametrize("settings", [{}, {"k1": 1.2, "b": 0.75}])
def test_scores_are_those_of_the_formula_to_four_decimals(index, settings):
    found = dict(best(Lucene(index, **settings), "green red"))
    assert set(found) == {"d0", "d1", "d4"}
    assert found["d0"] == pytest.approx(expected("green", 0, **settings) + expected("red", 0, **settings), abs=2e-4)
    assert found["d1"] == pytest.approx(expected("green", 1, **settings), abs=2e-4)


def test_answers_stand_in_the_order_of_the_queries_whatever_the_threads(index):
    queries = {f"q{number}": " ".join(TEXTS[number % 5].split()[::-1]) for number in range(600)}
    queries |= {"nothing": "zeppelin", "blank": " ", "syntax": 'red AND ( "*:* \\ OR'}
    one, four = (list(Lucene(index, threads=threads).search(queries, 2)) for threads in (1, 4))
    assert one == four
    assert [query_id for query_id, _ in one] == list(queries)
    found = dict(one)
    assert (found["nothing"], found["blank"], len(found["q0"])) == ([], [], 2)
    assert [docid for docid, _ in found["syntax"]] == ["d0", "d4"]


def test_rm3_finds_what_shares_no_word_with_the_query(tmp_path):
    # RM3 leaves out words of more than a tenth of the passages
    filler = [Passage(f"f{number}", f"filler{number} stone{number}") for number in range(40)]
    build_index(tmp_path, [Passage("d0", "pink panther cartoon"), Passage("d1", "cartoon movie"), *filler])
    assert [docid for docid, _ in best(Lucene(tmp_path), "pink")] == ["d0"]
    half = best(Lucene(tmp_path, rm3=RM3(fb_docs=1)), "pink")
    assert [docid for docid, _ in half] == ["d0", "d1"]
    little = best(Lucene(tmp_path, rm3=RM3(fb_docs=1, original_query_weight=0.9)), "pink")
    assert dict(little)["d1"] < dict(half)["d1"]


def test_a_language_has_its_own_analyzer(tmp_path):
    build_index(tmp_path, [Passage("a", "die Häuser der Stadt"), Passage("b", "ein Boot")], "german")
    german = Lucene(tmp_path, "german")
    assert [docid for docid, _ in best(german, "Häusern")] == ["a"]
    assert best(german, "die der ein") == []


def test_a_collection_is_indexed_once_and_its_index_works_alone(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    rows = [*PASSAGES, Passage("o'd/5", 'line\nbreak, "quoted" red', "A title: café")]
    lines = [json.dumps({"docid": one.docid, "title": one.title, "text": one.text}) + "\n" for one in rows]
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    (tmp_path / "queries.tsv").write_text("q1\tred cafe café\nq2\tzeppelin\n")
    words = ["--retriever", "lucene", "--queries_path", "queries.tsv"]
    corpus = ["--corpus_path", "corpus.jsonl"]
    with caplog.at_level(logging.INFO):
        main([*words, *corpus, "--output_path", "one.trec", "--rerank_input_path", "one.jsonl"])
        main([*words, *corpus, "--output_path", "two.trec"])
    assert caplog.text.count("the index is kept here") == caplog.text.count("the index is used again") == 1
    [kept] = tmp_path.glob("lucene-*")
    main([*words, "--index", str(kept), "--output_path", "own.trec", "--rerank_input_path", "own.jsonl"])
    assert len({(tmp_path / name).read_bytes() for name in ("one.trec", "two.trec", "own.trec")}) == 1
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "own.jsonl").read_bytes()
    assert load_candidates("own.jsonl")[0].passages[0] == rows[-1]
    assert json.loads((tmp_path / "own.trec.run_config.json").read_text())["report"]["seconds_per_query"] > 0
    named = [*words, *corpus, "--index", "named"]
    main([*named, "--output_path", "named.trec"])
    (tmp_path / "corpus.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match="named: the index must be made of the same passages"):
        main([*named, "--output_path", "other.trec"])
    with pytest.raises(InputError, match="same language; it has language english"):
        main([*words, "--index", "named", "--language", "german", "--output_path", "other.trec"])


def test_an_index_that_is_not_there_is_explained(tmp_path):
    (tmp_path / "queries.tsv").write_text("q1\tred\n")
    words = ["--retriever", "lucene", "--queries_path", str(tmp_path / "queries.tsv")]
    words += ["--output_path", str(tmp_path / "run")]
    with pytest.raises(InputError, match=r"got 'msmarco-v1-pasage', which is neither; near it: msmarco-v1-passage"):
        main([*words, "--index", "msmarco-v1-pasage"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="must be a folder with a Lucene index; it holds none"):
        main([*words, "--index", str(tmp_path / "empty")])
    with pytest.raises(InputError, match="one of --corpus_path and --corpus_data_name is needed"):
        main(words)


def test_an_index_that_is_spoilt_is_one_clear_error(index, tmp_path):
    for file in index.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() if file.name != "segments_1" else b"spoilt")
    with pytest.raises(InputError, match=r"must be a Lucene index that can be read; Java says: .*Index"):
        Lucene(tmp_path)


def test_a_prebuilt_index_is_downloaded_by_its_name_or_the_way_out_is_said(index, tmp_path, monkeypatch):
    import pyserini.util

    (tmp_path / "queries.tsv").write_text("q1\tred\n")
    words = ["--retriever", "lucene", "--queries_path", str(tmp_path / "queries.tsv"), "--index", "msmarco-v1-passage"]
    monkeypatch.setattr(pyserini.util, "download_prebuilt_index", lambda name, verbose: str(index))
    main([*words, "--output_path", str(tmp_path / "run")])
    assert read_run(tmp_path / "run")["q1"]

    with pytest.raises(InputError, match="holds words, not impacts; drop --impact_encoder"):
        main([*words, "--impact_encoder", "words", "--output_path", str(tmp_path / "other")])
    with pytest.raises(InputError, match=r"beir-v1\.0\.0-nfcorpus\.splade-v3 holds impacts; give --impact_encoder"):
        main([*words[:-1], "beir-v1.0.0-nfcorpus.splade-v3", "--output_path", str(tmp_path / "other")])

    def unreachable(name, verbose):
        raise ValueError("Unable to download prebuilt index at any known URLs.")

    monkeypatch.setattr(pyserini.util, "download_prebuilt_index", unreachable)
    with pytest.raises(InputError, match=r"could not be downloaded .* give its folder as --index"):
        main([*words, "--output_path", str(tmp_path / "other")])


def index_of_others(folder, collection, *options):
    """An index as Anserini's own command makes it."""
    words = ["-collection", collection, "-input", str(folder / "in"), "-index", str(folder / "index")]
    words += ["-generator", "DefaultLuceneDocumentGenerator", "-threads", "1", *options]
    start_java("this test")("io.anserini.index.IndexCollection").main(words)
    return folder / "index"


def test_somebody_elses_index_without_texts_and_vectors_says_what_it_lacks(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "docs.jsonl").write_text('{"id": "d1", "contents": "red cat"}\n')
    lucene = Lucene(index_of_others(tmp_path, "JsonCollection"))
    assert [docid for docid, _ in best(lucene, "cats")] == ["d1"]
    with pytest.raises(InputError, match=r'must store texts .*none of docid "d1"; give --corpus_path'):
        lucene.texts(["d1"])
    with pytest.raises(InputError, match="--rm3 needs an index that stores term vectors"):
        Lucene(tmp_path / "index", rm3=RM3())


@pytest.fixture(scope="module")
def impacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("impacts")
    (folder / "in").mkdir()
    rows = [("d1", {"red": 3, "cat": 5}), ("d2", {"red": 9, "##s": 1}), ("d3", {"dog": 2, "##s": 7})]
    (folder / "in" / "docs.jsonl").write_text(
        "".join(json.dumps({"id": docid, "contents": f"text {docid}", "vector": row}) + "\n" for docid, row in rows)
    )
    return index_of_others(folder, "JsonVectorCollection", "-impact", "-pretokenized", "-storeRaw"), dict(rows)


def test_impacts_are_summed_with_the_querys_weights(impacts):
    folder, rows = impacts
    lucene = Lucene(folder, encoder="words")
    found = best(lucene, "red red cat ##s zeppelin")
    weights = {"red": 2, "cat": 1, "##s": 1}
    sums = {docid: sum(weights.get(word, 0) * impact for word, impact in row.items()) for docid, row in rows.items()}
    assert dict(found) == sums
    assert [docid for docid, _ in found] == ["d2", "d1", "d3"]
    assert lucene.texts(["d2"]) == {"d2": Passage("d2", "text d2")}


def test_impacts_take_rm3_too(impacts):
    expanded = Lucene(impacts[0], encoder="words", rm3=RM3(fb_docs=1))
    assert best(expanded, "cat")[0][0] == "d1"


def test_a_splade_model_weighs_the_query(impacts, tmp_path):
    import torch
    from conftest import train_wordpiece
    from transformers import BertConfig, BertForMaskedLM

    folder, _ = impacts
    model_folder = tmp_path / "tiny-splade"
    tokenizer = train_wordpiece(model_folder)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), initializer_range=1.0, **size)).eval()
    model.save_pretrained(model_folder)
    with torch.no_grad():
        logits = model(**tokenizer("the red cat", return_tensors="pt")).logits[0]
    weights = torch.log1p(torch.relu(logits)).amax(0)
    [red, cat, dog] = tokenizer.convert_tokens_to_ids(["red", "cat", "dog"])
    rows = {"d1": {red: 3, cat: 5}, "d2": {red: 9}, "d3": {dog: 2}}
    ours = {docid: sum(float(weights[token]) / 5 * 256 * n for token, n in row.items()) for docid, row in rows.items()}
    found = dict(best(Lucene(folder, encoder=str(model_folder)), "the red cat"))
    share = int(tokenizer.convert_tokens_to_ids("##s"))
    ours["d2"] += float(weights[share]) / 5 * 256 * 1
    ours["d3"] += float(weights[share]) / 5 * 256 * 7
    for docid, score in ours.items():
        assert found.get(docid, 0.0) == pytest.approx(score, rel=0.02, abs=10)


def test_an_encoder_that_cannot_be_is_refused(impacts, index, tmp_path):
    with pytest.raises(InputError, match=r"--impact_encoder must be words, .* in its name; got 'bert-base'"):
        Lucene(impacts[0], encoder="bert-base")
    with pytest.raises(InputError, match="the query encoder must be loadable"):
        Lucene(impacts[0], encoder=str(tmp_path / "no-splade"))
    (tmp_path / "corpus.tsv").write_text("d1\tred\n")
    (tmp_path / "queries.tsv").write_text("q1\tred\n")
    words = ["--corpus_path", str(tmp_path / "corpus.tsv"), "--queries_path", str(tmp_path / "queries.tsv")]
    words += ["--retriever", "lucene"]
    with pytest.raises(InputError, match="--impact_encoder needs --index"):
        main([*words, "--impact_encoder", "words", "--output_path", str(tmp_path / "run")])
    main([*words, "--output_path", str(tmp_path / "run")])
    [kept] = tmp_path.glob("lucene-*")
    with pytest.raises(InputError, match=r"needs an index of impacts; .* holds words"):
        Lucene(kept, encoder="words")


def test_bm25_starts_without_torch_and_without_a_key(index):
    program = (
        "import sys; from tevatron_distill.retrieval.lucene import Lucene\n"
        f"print(*[found for _, found in Lucene({str(index)!r}).search({{'q': 'yellow'}}, 1)])\n"
        "print('torch' in sys.modules, 'openai' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.splitlines()[1] == "False False"
    assert "'d3'" in done.stdout
    assert done.stderr == ""


@pytest.mark.data
def test_lucene_and_bm25s_agree_on_nfcorpus_and_with_what_anserini_publishes(data_dir, tmp_path):
    with zipfile.ZipFile(data_dir / "nfcorpus" / "nfcorpus.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "nfcorpus"
    words = ["--corpus_path", str(folder), "--queries_path", str(folder), "--query_data_split", "test"]
    main([*words, "--retriever", "lucene", "--output_path", str(tmp_path / "lucene.trec")])
    qrels = read_qrels(folder / "qrels" / "test.tsv")
    ours = BM25(read_passages(folder)).search(read_queries(folder, split="test"), 100)
    runs = {"bm25s": {qid: dict(found) for qid, found in ours}, "lucene": read_run(tmp_path / "lucene.trec")}
    means = {name: evaluate(run, qrels, ["nDCG@10", "R@100"]).mean for name, run in runs.items()}
    published = yaml.safe_load((data_dir / "expected_metrics" / "beir-v1.0.0-nfcorpus.flat.yaml").read_text())
    [model] = [model for model in published["models"] if model["name"] == "bm25"]
    assert means["lucene"]["nDCG@10"] == pytest.approx(model["results"]["nDCG@10"][0], abs=2e-3)
    assert means["lucene"]["R@100"] == pytest.approx(model["results"]["R@100"][0], abs=2e-3)
    assert means["bm25s"]["nDCG@10"] == pytest.approx(means["lucene"]["nDCG@10"], abs=0.01)
