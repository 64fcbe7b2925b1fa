"""The candidates of published tables, by name: ``python scripts/published_sets.py dl19 scifact --folder out/sets``.

A name becomes FOLDER/NAME with `candidates.jsonl` (texts, in first-stage order), `run.trec`, and `qrels.txt` where it
is a test set. What is there already stays, so a folder of your own candidates under that name is taken as it is. The
first stages are those of the published figures: Anserini's prebuilt indexes (extras `pyserini,jdk`), TREC's own top
1000 (extra `ir`), and runs that the authors have put up. Nothing of this was run here: there was no network.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tevatron_distill.driver import retrieve
from tevatron_distill.driver.common import run_main
from tevatron_distill.extras import load_package
from tevatron_distill.formats.collections import read_queries
from tevatron_distill.formats.hub import read_dataset
from tevatron_distill.formats.output import write_whole
from tevatron_distill.formats.parquet import read_parquet
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run, strictly_decreasing, write_run
from tevatron_distill.retrieval.java import refusing, start_java
from tevatron_distill.schema import InputError, Qrels, Run

PYSERINI = "pyserini:"
MSMARCO = "Tevatron/msmarco-passage-corpus"
NANO = "sentence-transformers/NanoBEIR-en"
SPLADE = "naver/splade-cocondenser-ensembledistil"
RANKLLAMA_RUN = (
    "https://www.dropbox.com/scl/fi/byty1lk2um36imz0788yd/run.repllama.psg.dl19.txt"
    "?rlkey=615ootx2mia42cxdilp4tvqzh&dl=1"
)
RANK_DISTILLM = "https://huggingface.co/datasets/webis/rank-distillm/resolve/main/"


@dataclass(frozen=True)
class Source:
    """Where queries, judgements and candidates come from.

    Attributes:
        queries: a name of a collection, or ``pyserini:`` and the name of topics.
        qrels: likewise; empty for training queries.
        index: prebuilt Lucene index that is searched.
        encoder: of the queries of an index of impacts.
        run: in the index's place: an address, ``irds:`` and an id, or a split of NanoBEIR's rankings.
        corpus: texts of a run.
        depth: candidates a query.
    """

    queries: str
    qrels: str = ""
    index: str = ""
    encoder: str = ""
    run: str = ""
    corpus: str = MSMARCO
    depth: int = 100


def trec_dl(year: int) -> dict[str, Source]:
    """The sets of a year of TREC's Deep Learning Track."""
    name = f"irds:msmarco-passage/trec-dl-20{year}/judged"
    return {
        f"dl{year}": Source(name, name, index="msmarco-v1-passage"),
        f"dl{year}-splade": Source(name, name, index="msmarco-v1-passage.splade-pp-ed-text", encoder=SPLADE),
        f"dl{year}-top1000": Source(name, name, run=name, depth=1000),
    }


BEIR = {"covid": "trec-covid", "nfc": "nfcorpus", "touche": "webis-touche2020", "dbpedia": "dbpedia-entity"}
CLOSED = {"signal": "signal1m", "news": "trec-news", "robust04": "robust04"}
NANO_NAMES = ("ArguAna", "ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus", "NQ")
NANO_NAMES += ("QuoraRetrieval", "SCIDOCS", "SciFact", "Touche2020")
SOURCES: dict[str, Source] = {
    **trec_dl(19),
    **trec_dl(20),
    "dl19-repllama": Source("Tevatron/msmarco-passage:dl19", trec_dl(19)["dl19"].qrels, run=RANKLLAMA_RUN, depth=200),
    **{
        name: Source(f"BeIR/{theirs}:test", f"BeIR/{theirs}:test", index=f"beir-v1.0.0-{theirs}.flat")
        for name, theirs in {**BEIR, "scifact": "scifact"}.items()
    },
    # their texts are licensed, so that no dataset on the hub has them; the index does
    **{
        name: Source(*[f"{PYSERINI}beir-v1.0.0-{theirs}-test"] * 2, index=f"beir-v1.0.0-{theirs}.flat")
        for name, theirs in CLOSED.items()
    },
    **{
        f"nano-{name.lower()}": Source(*[f"{NANO}:Nano{name}"] * 2, run=f"Nano{name}", corpus=f"{NANO}:Nano{name}")
        for name in NANO_NAMES
    },
    "rank-distillm": Source(
        "irds:msmarco-passage/train",
        run=f"{RANK_DISTILLM}__rankzephyr-colbert-10000-sampled-100__msmarco-passage-train-judged.parquet",
    ),
}


def make(name: str, folder: Path) -> Path:
    """The folder of a set, made where it is missing.

    Raises:
        InputError: if there is no such set, or something that it is made of cannot be had.
    """
    target = folder / name
    candidates = target / "candidates.jsonl"
    if candidates.is_file():
        return target
    source = SOURCES.get(name)
    if source is None:
        raise InputError(f"{candidates}: no such file, and no set of this name; known are {', '.join(SOURCES)}")
    target.mkdir(parents=True, exist_ok=True)
    queries = topics(source.queries)
    if source.qrels:
        qrels = judgements(source.qrels)
        lines = [f"{query} 0 {docid} {grade}" for query, grades in qrels.items() for docid, grade in grades.items()]
        write_whole(target / "qrels.txt", lines, overwrite=True)
        queries = {query_id: text for query_id, text in queries.items() if query_id in qrels}
    run = published_run(source, target) if source.run else None
    if run is not None:
        queries = {query_id: text for query_id, text in queries.items() if query_id in run}
        kept = {query_id: cut(scores, source.depth) for query_id, scores in run.items() if query_id in queries}
        write_run(target / "run.trec", kept, "trec", name, overwrite=True)
    rows = (json.dumps({"query_id": query_id, "query": text}) for query_id, text in queries.items())
    write_whole(target / "queries.jsonl", rows, overwrite=True)
    retrieve.main(command(source, target))
    return target


def command(source: Source, target: Path) -> list[str]:
    """What `driver.retrieve` is told: to search, or to join the run with its texts."""
    words = ["--queries_path", str(target / "queries.jsonl"), "--depth", str(source.depth), "--overwrite_output_dir"]
    candidates = str(target / "candidates.jsonl")
    if source.run:
        words += ["--retrieval_results", str(target / "run.trec"), "--corpus_path", source.corpus]
        return [*words, "--output_path", candidates]
    words += ["--retriever", "lucene", "--index", source.index]
    words += ["--impact_encoder", source.encoder] if source.encoder else []
    return [*words, "--output_path", str(target / "run.trec"), "--rerank_input_path", candidates]


def topics(name: str) -> dict[str, str]:
    """Queries by their ids."""
    if not name.startswith(PYSERINI):
        return read_queries(name)
    module = pyserini()
    with refusing(f"{name}: its topics could not be had"):
        found = module.get_topics(name.removeprefix(PYSERINI))
    return {str(query_id): topic["title"] for query_id, topic in found.items()}


def judgements(name: str) -> Qrels:
    """Grades by query and docid."""
    if not name.startswith(PYSERINI):
        return read_qrels(name)
    module = pyserini()
    with refusing(f"{name}: its judgements could not be had"):
        found = module.get_qrels(name.removeprefix(PYSERINI))
    return {str(query): {str(docid): int(grade) for docid, grade in one.items()} for query, one in found.items()}


def pyserini() -> ModuleType:
    """Its module of topics and judgements, with a Java that it can run."""
    start_java("this set")
    return load_package("pyserini.search", "this set")


def published_run(source: Source, target: Path) -> Run:
    """The candidates that others have put up.

    Raises:
        InputError: if they cannot be had.
    """
    if source.run.startswith("irds:"):
        return irds_run(source.run.removeprefix("irds:"))
    if not source.run.startswith("https:"):
        rankings = read_dataset(NANO, "bm25", source.run)
        return {row["query-id"]: falling(row["corpus-ids"]) for _, row in rankings}
    ending = ".parquet" if source.run.endswith(".parquet") else ".txt"
    path = target / f"downloaded{ending}"
    if not path.is_file():
        download(source.run, path)
    return parquet_run(path) if ending == ".parquet" else read_run(path)


def download(address: str, path: Path) -> None:
    """Fetch a file; a part of one is not left under its name.

    Raises:
        InputError: if it cannot be had.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        urllib.request.urlretrieve(address, partial)
    except OSError as error:
        raise InputError(f"{address}: could not be downloaded ({error}); put the file at {path}") from error
    partial.rename(path)


def irds_run(name: str) -> Run:
    """The candidates that a dataset of ir_datasets brings, best first."""
    run: Run = {}
    for one in load_package("ir_datasets", name).load(name).scoreddocs_iter():
        run.setdefault(one.query_id, {})[one.doc_id] = one.score
    return {query_id: cut(scores, len(scores)) for query_id, scores in run.items()}


def parquet_run(path: Path) -> Run:
    """A run in the columns ``qid``, ``docno`` and ``score`` (Rank-DistiLLM's)."""
    run: Run = {}
    for _, row in read_parquet(path):
        run.setdefault(str(row["qid"]), {})[str(row["docno"])] = float(row["score"])
    return run


def cut(scores: dict[str, float], depth: int) -> dict[str, float]:
    """The best, with scores that strictly decrease."""
    best = sorted(scores.items(), key=lambda item: -item[1])[:depth]
    fallen = strictly_decreasing([score for _, score in best])
    return dict(zip((docid for docid, _ in best), fallen, strict=True))


def falling(docids: list[str]) -> dict[str, float]:
    """Scores for a list that has an order only."""
    return {docid: -float(place) for place, docid in enumerate(docids)}


def listed() -> Iterator[str]:
    """A line for each set: its name and its first stage."""
    for name, source in SOURCES.items():
        first = source.index or source.run.partition("?")[0]
        yield f"{name:<22} {first}, {source.depth} candidates; queries {source.queries}"


def main(argv: list[str] | None = None) -> None:
    """Make the sets that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of the sets; none lists them")
    parser.add_argument("--folder", type=Path, default=Path("out/sets"), help="where they are kept")
    arguments = parser.parse_args(argv)
    if not arguments.names:
        print("\n".join(listed()))
    for name in arguments.names:
        print(make(name, arguments.folder))


if __name__ == "__main__":
    run_main(main)
