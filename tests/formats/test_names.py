"""Collections by name: ids of ir_datasets, the hub's layouts by name and as local folders."""

from __future__ import annotations

import json
import sys
import types
from typing import NamedTuple

import datasets
import pytest

from tevatron_distill.driver.evaluate import main as evaluate
from tevatron_distill.driver.retrieve import main as retrieve
from tevatron_distill.formats.collections import read_corpus, read_queries
from tevatron_distill.formats.names import choose_split, parse_name
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.schema import InputError, Passage

PASSAGES = [Passage("d1", "red cat", "T"), Passage("007", "green dog")]
QUERIES = {"q1": "red", "q2": "green", "q3": "blue"}
QRELS = {"test": {"q1": {"d1": 2}, "q2": {"007": 1}}, "dev": {"q3": {"d1": 1}}}

CORPUS = [{"_id": passage.docid, "title": passage.title, "text": passage.text} for passage in PASSAGES]
ASKED = [{"_id": query_id, "text": query} for query_id, query in QUERIES.items()]


def judged(split, *, score=True):
    rows = [(query_id, *pair) for query_id, grades in QRELS[split].items() for pair in grades.items()]
    keys = ("query-id", "corpus-id", "score") if score else ("query-id", "corpus-id")
    return [dict(zip(keys, row, strict=False)) for row in rows]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif path.suffix == ".tsv":
        path.write_text("\t".join(rows[0]) + "\n" + "".join("\t".join(map(str, r.values())) + "\n" for r in rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def readme(folder, configs):
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


def beir_of_the_hub(folder):
    """BeIR/nfcorpus and BeIR/nfcorpus-qrels."""
    write(folder / "nfcorpus/corpus/corpus-00000-of-00002.parquet", CORPUS[:1])
    write(folder / "nfcorpus/corpus/corpus-00001-of-00002.parquet", CORPUS[1:])
    write(folder / "nfcorpus/queries/queries-00000-of-00001.parquet", ASKED)
    readme(folder / "nfcorpus", {"corpus": {"corpus": "corpus/*"}, "queries": {"queries": "queries/*"}})
    write(folder / "nfcorpus-qrels/test.tsv", judged("test"))
    write(folder / "nfcorpus-qrels/validation.tsv", judged("dev"))
    return f"{folder}/nfcorpus", f"{folder}/nfcorpus-qrels"


def beir_by_its_makers(folder):
    """BEIR's own zip."""
    write(folder / "nf/corpus.jsonl", CORPUS)
    write(folder / "nf/queries.jsonl", ASKED)
    for split in QRELS:
        write(folder / f"nf/qrels/{split}.tsv", judged(split))
    return f"{folder}/nf", f"{folder}/nf"


def mteb(folder):
    """mteb/nfcorpus: the judgements are its config default, which only its README says."""
    write(folder / "mteb/c/part.jsonl", CORPUS)
    write(folder / "mteb/q/part.jsonl", ASKED)
    for split in QRELS:
        write(folder / f"mteb/j/{split}.jsonl", judged(split))
    configs = {"corpus": {"corpus": "c/*"}, "queries": {"queries": "q/*"}}
    readme(folder / "mteb", {"default": {split: f"j/{split}.jsonl" for split in QRELS}, **configs})
    return f"{folder}/mteb", f"{folder}/mteb"


@pytest.mark.parametrize("layout", [beir_of_the_hub, beir_by_its_makers, mteb], ids=lambda layout: layout.__name__)
def test_a_beir_collection_reads_the_same_from_every_layout(tmp_path, layout):
    collection, judgements = layout(tmp_path)
    assert list(read_corpus(collection)) == PASSAGES
    assert read_queries(collection) == QUERIES
    assert read_queries(collection, split="test") == {"q1": "red", "q2": "green"}
    assert read_queries(f"{collection}:dev") == {"q3": "blue"}
    for source in (collection, judgements):
        assert read_qrels(f"{source}:test") == QRELS["test"]
        assert read_qrels(source, "validation") == QRELS["dev"]
        with pytest.raises(InputError, match=r"qrels have the splits (dev|test), \w+; name one behind a colon: .*:"):
            read_qrels(source)
        with pytest.raises(InputError, match=r"the split of the qrels must be one of .*; got 'train'"):
            read_qrels(f"{source}:train")


@pytest.mark.parametrize("with_readme", [True, False])
def test_nanobeir_has_a_split_a_collection(tmp_path, with_readme):
    folder = tmp_path / "NanoBEIR-en"
    names = ("NanoMSMARCO", "NanoNFCorpus")
    for name in names:
        rows = {"corpus": CORPUS, "queries": ASKED[:2], "qrels": judged("test", score=False)}
        if name == "NanoMSMARCO":
            rows = {role: [{**rows[role][0], "_id": "other", "query-id": "other"}] for role in rows}
        for role in rows:
            write(folder / role / f"{name}-00000-of-00001.parquet", rows[role])
    if with_readme:
        readme(folder, {role: {name: f"{role}/{name}-*" for name in names} for role in ("corpus", "queries", "qrels")})
    source = f"{folder}:NanoNFCorpus"
    assert (
        list(read_corpus(source))
        == PASSAGES
        == list(read_corpus(folder, "corpus", "NanoNFCorpus") if with_readme else PASSAGES)
    )
    assert read_queries(source) == {"q1": "red", "q2": "green"}
    assert read_qrels(source) == {"q1": {"d1": 1}, "q2": {"007": 1}}
    with pytest.raises(InputError, match=r"the corpus have the splits NanoMSMARCO, NanoNFCorpus; name one"):
        list(read_corpus(folder))


def test_a_collection_of_nanobeir_alone_needs_no_split(tmp_path):
    folder = tmp_path / "NanoNFCorpus"
    for role, rows in {"corpus": CORPUS, "queries": ASKED[:2], "qrels": judged("test", score=False)}.items():
        write(folder / role / "train-00000-of-00001.parquet", rows)
    assert list(read_corpus(folder)) == PASSAGES
    assert list(read_queries(folder)) == ["q1", "q2"]
    assert read_qrels(folder) == {"q1": {"d1": 1}, "q2": {"007": 1}}


def test_a_row_of_nanobeir_may_list_all_passages_of_a_query(tmp_path):
    write(tmp_path / "nano/qrels/train.jsonl", [{"query-id": "q", "corpus-id": ["a", "b"]}])
    assert read_qrels(tmp_path / "nano") == {"q": {"a": 1, "b": 1}}


def test_tevatrons_corpus_and_queries_read_from_local_folders(tmp_path):
    rows = [{"docid": passage.docid, "title": passage.title, "text": passage.text} for passage in PASSAGES]
    write(tmp_path / "msmarco-passage-corpus/corpus.jsonl", rows)
    training = [
        {"query_id": query_id, "query": query, "positive_passages": rows[:1], "negative_passages": rows[1:]}
        for query_id, query in QUERIES.items()
    ]
    for split in ("train", "dl19"):
        write(tmp_path / f"msmarco-passage/{split}.jsonl", training[: 3 if split == "train" else 2])
    readme(tmp_path / "msmarco-passage", {"default": {"train": "train.jsonl", "dl19": "dl19.jsonl"}})
    assert list(read_corpus(tmp_path / "msmarco-passage-corpus")) == PASSAGES
    assert read_queries(tmp_path / "msmarco-passage") == QUERIES
    assert list(read_queries(f"{tmp_path}/msmarco-passage:dl19")) == ["q1", "q2"]


@pytest.mark.parametrize(
    ("read", "name"),
    [(lambda name: list(read_corpus(name)), "BeIR/nfcorpus"), (read_queries, "zeta-alpha-ai/NanoNFCorpus")]
    + [(read_qrels, name) for name in ("BeIR/nfcorpus-qrels:test", "sentence-transformers/NanoBEIR-en:NanoNFCorpus")],
)
def test_a_name_that_cannot_be_reached_says_what_to_do(read, name, monkeypatch):
    def unreachable(*args, **keywords):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "get_dataset_config_names", unreachable)
    with pytest.raises(
        InputError, match=rf"{name.partition(':')[0]}: no such file .* where there is no network, download"
    ):
        read(name)


class Document(NamedTuple):
    doc_id: str
    text: str
    title: str


class Web(NamedTuple):
    doc_id: str
    url: str
    title: str
    body: str


class Tweet(NamedTuple):
    doc_id: str
    words: str

    def default_text(self):
        return self.words


class Query(NamedTuple):
    query_id: str
    title: str

    def default_text(self):
        return self.title


class Judgement(NamedTuple):
    query_id: str
    doc_id: str
    relevance: int
    iteration: str


def stand_in(documents=(), failing=False):
    def rows(found):
        if failing:
            raise OSError("Name or service not known")
        yield from found

    judgements = [Judgement(q, d, grade, "0") for q, grades in QRELS["test"].items() for d, grade in grades.items()]
    return types.SimpleNamespace(
        has_docs=lambda: bool(documents),
        docs_iter=lambda: rows(documents),
        has_queries=lambda: True,
        queries_iter=lambda: rows([Query(query_id, text) for query_id, text in QUERIES.items()]),
        has_qrels=lambda: True,
        qrels_iter=lambda: rows(judgements),
    )


@pytest.fixture
def registered(monkeypatch):
    names = {
        "toy": stand_in([Document(one.docid, one.text, one.title) for one in PASSAGES]),
        "toy/web": stand_in([Web("d1", "http://x", "T", "words")]),
        "toy/tweets": stand_in([Tweet("d1", "words")]),
        "toy/judged": stand_in(),
        "toy/far": stand_in([Tweet("d1", "words")], failing=True),
    }
    library = types.ModuleType("ir_datasets")
    library.load = names.__getitem__
    monkeypatch.setitem(sys.modules, "ir_datasets", library)


def test_an_id_of_ir_datasets_is_corpus_queries_and_judgements(registered, tmp_path, monkeypatch, capsys):
    assert list(read_corpus("irds:toy")) == PASSAGES
    assert list(read_corpus("irds:toy/web")) == [Passage("d1", "words", "T")]
    assert list(read_corpus("irds:toy/tweets")) == [Passage("d1", "words")]
    assert read_queries("irds:toy/judged") == QUERIES
    assert read_qrels("irds:toy/judged") == QRELS["test"]
    monkeypatch.chdir(tmp_path)
    retrieve(["--corpus_path", "irds:toy", "--queries_path", "irds:toy", "--output_path", "run.trec"])
    evaluate(["--run_path", "run.trec", "--qrels_path", "irds:toy", "--measures", "RR@10", "--output_path", "m.json"])
    assert "1.0000" in capsys.readouterr().out
    assert json.loads((tmp_path / "m.json.run_config.json").read_text())["inputs"].keys() == {"run.trec"}


@pytest.mark.retrieval
def test_the_library_itself_gives_a_collection_of_its_registry(tmp_path):
    library = pytest.importorskip("ir_datasets", reason='pip install "tevatron-distill[ir]"')
    (tmp_path / "docs.tsv").write_text("d1\tred cat\n007\tgreen dog\n")
    (tmp_path / "queries.tsv").write_text("q1\tred\nq2\tgreen\nq3\tblue\n")
    (tmp_path / "qrels").write_text("q1 0 d1 2\nq2 0 007 1\n")
    files = {name: str(tmp_path / name) for name in ("docs.tsv", "queries.tsv", "qrels")}
    local = library.create_dataset(
        docs_tsv=files["docs.tsv"], queries_tsv=files["queries.tsv"], qrels_trec=files["qrels"]
    )
    library.registry.register("tevatron-distill-toy", local)
    assert list(read_corpus("irds:tevatron-distill-toy")) == [Passage("d1", "red cat"), Passage("007", "green dog")]
    assert read_queries("irds:tevatron-distill-toy") == QUERIES
    assert read_qrels("irds:tevatron-distill-toy") == QRELS["test"]
    with pytest.raises(InputError, match="knows no dataset of this id"):
        read_queries("irds:tevatron-distill-toy/none")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("irds:toy/nothing", r"irds:toy/nothing: ir_datasets knows no dataset of this id"),
        ("irds:toy/judged", r"irds:toy/judged: this dataset has no corpus"),
        ("irds:toy/far", r"irds:toy/far: its corpus could not be had \(OSError: .*set IR_DATASETS_HOME"),
    ],
)
def test_an_id_that_gives_no_corpus_says_why(registered, name, message):
    with pytest.raises(InputError, match=message):
        list(read_corpus(name))


def test_a_missing_ir_datasets_names_the_extra(monkeypatch):
    monkeypatch.setattr("tevatron_distill.extras.is_installed", lambda name: False)
    with pytest.raises(InputError, match=r'irds:x needs ir_datasets: pip install "tevatron-distill\[ir\]"'):
        list(read_corpus("irds:x"))


def test_a_path_with_a_colon_is_a_path(tmp_path):
    write(tmp_path / "a:b", judged("test"))
    assert parse_name(tmp_path / "a:b") == (str(tmp_path / "a:b"), None)
    assert parse_name("name:one", "two") == ("name", "two")


def test_an_only_split_needs_no_name_and_dev_is_validation():
    assert choose_split("x", ["a"], "qrels", None) == "a"
    assert choose_split("x", ["validation", "test"], "qrels", "dev") == "validation"
    assert choose_split("x", ["test", "train"], "queries", None) == "train"
