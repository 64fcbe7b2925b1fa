"""What fuzz.py gives its inputs to: every reader and parser of the package, each with inputs to begin from.

A target is a function of bytes and a folder for its files. It returns, or raises InputError with the place in its
message; a broken law (what is written reads back as itself) is an AssertionError.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tevatron_distill.formats import load_candidates, load_groups
from tevatron_distill.formats.collections import read_passages, read_queries
from tevatron_distill.formats.conversations import parse_order, read_prompt
from tevatron_distill.formats.dialects import FORMATS
from tevatron_distill.formats.groups import group_to_line, read_groups, write_groups
from tevatron_distill.formats.instructdistill import format_permutations, read_permutations
from tevatron_distill.formats.jsonl import read_json, read_json_rows
from tevatron_distill.formats.parquet import group_rows, read_parquet, write_parquet
from tevatron_distill.formats.provenance import describe_groups
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.reading import ReadOptions, Tally
from tevatron_distill.formats.rerank_input import read_candidates, write_candidates_lines
from tevatron_distill.formats.runs import RUN_FORMATS, read_run, write_run
from tevatron_distill.prompts import LIST_PROMPTS
from tevatron_distill.schema import Candidates, Group, InputError, Passage

T = TypeVar("T")
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Target:
    """A reader or parser.

    Attributes:
        run: what is done with an input; files go into the folder.
        seeds: inputs to begin from, made in the folder.
        max_len: bytes of an input.
        stretches: whether inputs that are repeated up to 128 KB are tried too.
    """

    run: Callable[[bytes, Path], None]
    seeds: Callable[[Path], Iterable[bytes]]
    max_len: int = 4096
    stretches: bool = True


def attempt(read: Callable[[], T], folder: Path | None = None) -> T | None:
    """What is read, or None where the input is refused by a message that names a file or a flag."""
    try:
        return read()
    except InputError as error:
        said = str(error)
    assert folder is None or str(folder) in said or "--" in said, f"no place in: {said}"
    return None


def written(path: Path, data: bytes) -> Path:
    """The file with these bytes in it."""
    path.write_bytes(data)
    return path


def read_alike(data: bytes, folder: Path, name: str, read: Callable[[Path], Any]) -> Any:
    """What is read from a file, which is the same with gzip, a byte-order mark, or carriage returns."""
    plain = attempt(lambda: read(written(folder / name, data)), folder)
    kind = zlib.crc32(data) % 3
    if kind == 0:
        other = written(folder / f"{name}.gz", gzip.compress(data, 1))
    elif kind == 1 and not data.startswith(BOM):
        other = written(folder / f"bom-{name}", BOM + data)
    elif kind == 2 and b"\r" not in data:
        other = written(folder / f"crlf-{name}", data.replace(b"\n", b"\r\n"))
    else:
        return plain
    assert attempt(lambda: read(other), folder) == plain
    return plain


def check_groups(groups: Sequence[Group], folder: Path) -> None:
    """Groups of whatever dialect are the same when they are written and read."""
    path = folder / "written-groups.jsonl"
    write_groups(path, groups, overwrite=True)
    assert read_groups(path) == list(groups)
    assert describe_groups(groups)["groups"] == len(groups)


def check_candidates(candidates: Sequence[Candidates], folder: Path) -> None:
    """So are candidates."""
    text = "".join(f"{line}\n" for line in write_candidates_lines(candidates))
    assert read_candidates(written(folder / "written-candidates.jsonl", text.encode())) == list(candidates)


def read_dialect(name: str, data: bytes, folder: Path) -> None:
    """Rows of one dialect as groups, as candidates, and with rows left out that break a rule."""
    path = written(folder / "rows.jsonl", data)
    extra: dict[str, Any] = {}
    if name == "instructdistill":
        orders = json.dumps(["2 > 1"] * len([line for line in data.split(b"\n") if line.strip()]))
        extra = {"permutation_path": str(written(folder / "orders.json", orders.encode()))}
    elif name == "three_tables":
        queries = written(folder / "queries.tsv", b"q1\twho?\nq2\twhat?\n")
        corpus = written(folder / "corpus.tsv", b"a\ttext a\nb\ttext b\n1\t2\n")
        extra = {"queries_path": str(queries), "corpus_path": str(corpus)}
    elif name in ("rerank_rows", "rank_llm", "rank_llm_requests"):
        extra = {"teacher_run_path": str(written(folder / "teacher.tsv", b"q1\ta\t2\nq1\tb\t1\n"))}
    unfolds = name == "open_retrievals" and len(data) % 2 == 0
    options = ReadOptions(dataset_format=name, only_fitting=True, unfold_each_positive=unfolds, **extra)
    groups = attempt(lambda: load_groups(path, options=options), folder)
    if groups is not None:
        check_groups(groups, folder)
    if FORMATS[name].candidates is not None:
        candidates = attempt(lambda: load_candidates(path, options=options), folder)
        if candidates is not None:
            check_candidates(candidates, folder)
    attempt(lambda: load_groups(path, options=options, tally=Tally(skip=True)), folder)


def read_our_groups(data: bytes, folder: Path) -> None:
    """groups.jsonl, and the same rows in Parquet."""
    groups = read_alike(data, folder, "groups.jsonl", read_groups)
    if groups is not None:
        check_groups(groups, folder)
        if zlib.crc32(data) % 8 == 0:  # which takes longer than all the rest
            path = folder / "groups.parquet"
            if attempt(lambda: write_parquet(path, group_rows(groups), overwrite=True) or True, folder):
                attempt(lambda: load_groups(path), folder)


def read_orders(data: bytes, folder: Path) -> None:
    """InstructDistill's permutations, alone and beside two rows."""
    path = written(folder / "orders.json", data)
    orders = attempt(lambda: read_permutations(path), folder)
    if orders is not None:
        written(path, format_permutations(orders).encode())
        assert read_permutations(path) == orders
    rows = written(folder / "rows.jsonl", next(iter(DIALECTS["instructdistill"])))
    attempt(lambda: load_groups(rows, permutation_path=path), folder)


def read_runs(data: bytes, folder: Path) -> None:
    """Runs; a run that was written reads back as the same order."""
    run = read_alike(data, folder, "run.txt", read_run)
    if run is None:
        return
    path = folder / "written.run"
    for fmt in RUN_FORMATS[:2]:
        if attempt(lambda fmt=fmt: write_run(path, run, fmt, overwrite=True) or True):
            again = read_run(path)
            assert {query_id: list(scores) for query_id, scores in again.items()} == {
                query_id: list(scores) for query_id, scores in run.items()
            }
            write_run(folder / "again.run", again, fmt, overwrite=True)
            assert path.read_bytes() == (folder / "again.run").read_bytes()


def read_teacher_run(data: bytes, folder: Path) -> None:
    """A teacher's run over candidates."""
    rows = written(folder / "rows.jsonl", next(iter(DIALECTS["rerank_rows"])))
    groups = attempt(lambda: load_groups(rows, teacher_run_path=written(folder / "run.txt", data)), folder)
    if groups is not None:
        check_groups(groups, folder)


def read_collection(ending: str, data: bytes, folder: Path) -> None:
    """Corpora and queries."""
    read_alike(data, folder, f"corpus{ending}", lambda path: read_passages(path))
    attempt(lambda: read_queries(written(folder / f"queries{ending}", data)), folder)


def read_rows(data: bytes, folder: Path) -> None:
    """Rows of JSON, without their places."""
    read_alike(data, folder, "rows.jsonl", lambda path: repr([row for _, row in read_json_rows(path)]))


def read_any_groups(data: bytes, folder: Path) -> None:
    """Rows whose dialect is told by the first of them."""
    groups = attempt(lambda: load_groups(written(folder / "rows.jsonl", data)), folder)
    if groups is not None:
        check_groups(groups, folder)


def read_window(data: bytes, folder: Path) -> None:
    """The text of a list prompt, and the order behind it."""
    text, _, answer = data.decode("utf-8", "ignore").partition("\0")
    window = attempt(lambda: read_prompt("file:1", text))
    size, letters = (5, False) if window is None else (len(window.texts), window.letters)
    order = attempt(lambda: parse_order("file:1", answer or text, size, letters, Tally()))
    assert order is None or (len(set(order)) == len(order) and set(order) <= set(range(size)))


def lines_of(*rows: object) -> bytes:
    """Rows as lines of JSON."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


PASSAGES = (Passage("a", "text a", "Title A"), Passage("b", "text b"))
GROUP = Group(
    "q1",
    "who?",
    PASSAGES,
    (1, 0),
    2,
    scores=(0.5, 2.0),
    preferences=((0, 1, 0.25),),
    judgements=(0.0, 1.0),
    teacher={"name": "pairwise", "answers": 2},
    metrics={"rouge1": (0.1, 0.2), "bleu": (3.0, 4.0)},
    reference="gold",
)
CANDIDATES = Candidates("q1", "who?", PASSAGES, (2.0, 1.0))
_ROWS = [{"docid": p.docid, "title": p.title, "text": p.text} for p in PASSAGES]


def _conversation(name: str) -> dict[str, Any]:
    prompt = LIST_PROMPTS[name]
    turns = prompt.render("who?", [prompt.passage_text(p) for p in PASSAGES], is_encoder_decoder=False).turns
    turns = (*turns, ("assistant", prompt.answer_text([1, 0])))
    return {"id": "q1", "conversations": [{"from": role, "value": text} for role, text in turns]}


_BLENDED = {
    "id": "q1",
    "instruction": "say",
    "input": "it",
    "output": "gold",
    "candidates": [
        {"model": m, "decoding_method": "top_p", "text": f"text {m}", "scores": {"rouge1": n, "bleu": 9.5, "cider": 1}}
        for n, m in enumerate("ab")
    ],
    "cmp_results": json.dumps({"a,b": "A is better", "b,a": "Same bad"}),
}
_HITS = [{"content": "text", "qid": "q1", "docid": d, "rank": n, "score": 9.5 - n} for n, d in enumerate("ab")]
DIALECTS: dict[str, Sequence[bytes]] = {
    "groups": [f"{group_to_line(GROUP)}\n".encode()],
    "rank_llm_conversations": [
        lines_of(_conversation(name)) for name in ("rank_vicuna", "rank_zephyr", "rank_zephyr_alpha")
    ],
    "rank_llm": [lines_of({"query": "who?", "hits": _HITS})],
    "rank_llm_requests": [
        lines_of(
            {
                "query": {"text": "who?", "qid": "q1"},
                "candidates": [{"docid": d, "score": 2, "doc": {"segment": "text", "title": d}} for d in "ab"],
            }
        ),
        lines_of({"query": "who?", "candidates": ["one", "two"], "query_id": "q1"}),
    ],
    "llm_blender": [lines_of(_BLENDED)],
    "instructdistill": [
        lines_of(
            *({"query": q, "positive_passages": [_ROWS[0]], "retrieved_passages": _ROWS} for q in ("who?", "what?"))
        )
    ],
    "tevatron": [
        lines_of({"query_id": "q1", "query": "who?", "positive_passages": _ROWS[:1], "negative_passages": _ROWS[1:]})
    ],
    "three_tables": [
        lines_of({"query_id": "q1", "document_ids": ["a", "b"], "scores": [1.5, 0.5]}),
        lines_of({"query_id": "q2", "doc_ids": "['a', 'b']", "score": "[1.5, None]"}),
    ],
    "annotated": [lines_of({"query_id": "q1", "query": "who?", "passages": _ROWS, "scores": [1.5, None]})],
    "flagembedding": [
        lines_of({"query": "who?", "pos": ["one"], "neg": ["two", "three"], "pos_scores": [1], "neg_scores": [0, 0.5]})
    ],
    "labelled_lists": [lines_of({"query": "who?", "docs": ["one", "two"], "labels": [1, 0]})],
    "open_retrievals": [lines_of({"query": "who?", "positive": ["one", "two"], "negative": "three"})],
    "labelled_pairs": [
        lines_of(*({"query": "who?", "document": d, "label": n, "title": ""} for n, d in enumerate(("one", "two"))))
    ],
    "rerank_rows": ["".join(f"{line}\n" for line in write_candidates_lines([CANDIDATES])).encode()],
}
_RUNS = [b"q1\ta\t2.5\nq1\tb\t0.5\n", b"q1 Q0 a 1 2.5 tag\nq1 Q0 b 2 0.5 tag\n", b"q1 a 1 2\nq1 b 2 1\n"]


def _parquet_seeds(folder: Path) -> Iterable[bytes]:
    write_parquet(folder / "seed.parquet", group_rows([GROUP]), overwrite=True)
    yield (folder / "seed.parquet").read_bytes()


def given(seeds: Iterable[bytes]) -> Callable[[Path], Iterable[bytes]]:
    """Inputs that need no folder."""
    return lambda folder: seeds


TARGETS: dict[str, Target] = {
    "rows": Target(
        read_rows,
        given([b'{"a": 1}\n{"b": "\\ud83d\\ude00"}\n', b'[{"a": [1.5, null, true]}, {}]', BOM + b'{"a": NaN}\r\n']),
    ),
    "json": Target(
        lambda data, folder: attempt(lambda: read_json(written(folder / "one.json", data)), folder),
        given([b'{"a": [1, {"b": null}]}', BOM + b"[]"]),
    ),
    "gzip": Target(
        lambda data, folder: attempt(lambda: list(read_json_rows(written(folder / "rows.jsonl.gz", data))), folder),
        given([gzip.compress(seed) for seed in (b'{"a": 1}\n', b"\n")]),
        stretches=False,
    ),
    "groups": Target(read_our_groups, given(DIALECTS["groups"])),
    "any_dialect": Target(read_any_groups, given([seed for seeds in DIALECTS.values() for seed in seeds])),
    **{
        f"dialect_{name}": Target(partial(read_dialect, name), given(seeds))
        for name, seeds in DIALECTS.items()
        if name != "groups"
    },
    "list_prompt": Target(
        read_window,
        given(
            [
                f"{turns[-2]['value']}\0{turns[-1]['value']}".encode()
                for turns in (_conversation(name)["conversations"] for name in LIST_PROMPTS)
            ]
        ),
    ),
    "permutations": Target(read_orders, given([b'["2 > 1", "[1]"]', b'["1 > 2", "2"]'])),
    "run": Target(read_runs, given(_RUNS)),
    "teacher_run": Target(read_teacher_run, given(_RUNS)),
    "qrels": Target(
        lambda data, folder: read_alike(data, folder, "qrels.txt", read_qrels),
        given([b"q1 0 a 1\nq1 0 b -1\n", b"query-id\tcorpus-id\tscore\nq1\ta\t2\n"]),
    ),
    "corpus_tsv": Target(partial(read_collection, ".tsv"), given([b"a\ttitle\ttext\nb\ttext\n", b"q1\twho?\n"])),
    "corpus_jsonl": Target(
        partial(read_collection, ".jsonl"),
        given(
            [
                lines_of({"_id": "a", "title": "t", "text": "x"}, {"docid": 7, "text": "y"}),
                lines_of({"query_id": "q1", "query": "who?"}),
            ]
        ),
    ),
    "parquet": Target(
        lambda data, folder: attempt(lambda: list(read_parquet(written(folder / "rows.parquet", data))), folder),
        _parquet_seeds,
        stretches=False,
    ),
}
