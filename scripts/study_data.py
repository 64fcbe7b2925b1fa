"""The study's queries, candidates and verdicts, made from the real data; nothing here looks at a test judgement.

Sets: `dl19` and `dl20` (MS MARCO, shipped first stages), `nfcorpus` and `scifact` (BM25 of bm25s), and `known_item`,
queries that are sentences of passages of the other collections. Test queries are dl19's, nfcorpus's and scifact's
`test`; choices are made on dl20, on nfcorpus's `dev` and on a fifth of scifact's `train`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from tevatron_distill.driver import rerank, retrieve, teach
from tevatron_distill.formats import load_candidates
from tevatron_distill.formats.collections import read_passages, read_queries
from tevatron_distill.formats.groups import read_groups, write_groups
from tevatron_distill.formats.jsonl import write_json_line
from tevatron_distill.formats.output import write_whole
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.rerank_input import read_candidates, write_candidates_lines
from tevatron_distill.formats.runs import read_run
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Candidates, Group, Passage, Qrels

COLLECTIONS = ("nfcorpus", "scifact")
SPLITS = ("train", "dev", "test")
FIRST_STAGES = ("BM25", "BM25_RM3", "D_BERT_KD_TASB", "OPEN_AI_ADA2", "SPLADE_P_P_ENSEMBLE_DISTIL")
"""Of the 54 judged queries of dl20; RankVicuna has ordered the top 100 of each."""
NUM_GPT_RUNS = 5
DEPTH, TRAIN_DEPTH = 100, 30
MAX_POSITIVES, GROUP_LENGTH = 6, 24
"""Of a group made of judgements: relevant passages at most, passages in all."""
UNTRAINED_WEIGHT = 0.1
"""BM25's, beside the untrained MaxSim as a teacher: the best of 0, .1, …, 1 on dl20 (.643; MaxSim alone .635)."""
DEV_SHARE = 0.2
"""Of scifact's training queries, which come without a development split."""


def drawn(name: str, salt: str = "") -> float:
    """A number in [0, 1) that hangs on the name alone: what is drawn by it is the same on every machine."""
    return int(hashlib.sha256(f"{salt}/{name}".encode()).hexdigest()[:12], 16) / 16**12


def words(text: str) -> str:
    """A text's words in lower case: what two queries are compared by."""
    return " ".join(re.findall(r"\w+", text.lower()))


class StudyData:
    """Makes and names the study's files; what is there already stays.

    Args:
        data: folder of the real data.
        out: folder of the study.
        backbone: folder of the MiniLM weights.
        max_queries: of each set that is trained on (None: all), for the quick cut.
    """

    def __init__(self, data: Path, out: Path, backbone: Path, max_queries: int | None = None) -> None:
        self.data, self.out, self.backbone, self.max_queries = data, out, backbone, max_queries

    # -- names ---------------------------------------------------------------------------------------------------

    def candidates(self, name: str) -> Path:
        """Candidates of `dl19`, `dl20`, `nfcorpus.train`, `scifact.dev`, `known_item`, …"""
        if name in ("dl19", "dl20"):
            return self.shipped("BM25", name)
        return self.out / "candidates" / f"{name}.jsonl"

    def shipped(self, first_stage: str, name: str = "dl20") -> Path:
        """The shipped candidates of a first stage."""
        return self.data / "rank_llm/retrieve_results" / first_stage / f"retrieve_results_{name}.json"

    def groups(self, name: str) -> Path:
        """Verdicts: `rank_vicuna`, `gpt`, `fused`, `nfcorpus`, `scifact`, `known_item`."""
        return self.out / "groups" / f"{name}.jsonl"

    def qrels(self, name: str) -> Qrels:
        """Judgements of a set that is chosen by or tested on."""
        if name in ("dl19", "dl20"):
            return read_qrels(self.data / f"msmarco_dl/qrels/qrels.{name}-passage.txt")
        collection, split = name.split(".")
        judged = read_qrels(self.beir(collection) / "qrels" / f"{'train' if name == 'scifact.dev' else split}.tsv")
        if collection == "scifact" and split != "test":
            judged = {key: row for key, row in judged.items() if (drawn(key) < DEV_SHARE) == (split == "dev")}
        return judged

    def beir(self, collection: str) -> Path:
        """The unpacked folder of a collection."""
        if not (self.out / "beir" / collection).exists():
            with zipfile.ZipFile(self.data / collection / f"{collection}.zip") as archive:
                archive.extractall(self.out / "beir")
        return self.out / "beir" / collection

    def teacher_run(self, first_stage: str, collection: str = "dl20") -> Path:
        """RankVicuna's run of 100 on a first stage."""
        folder = self.data / "rank_llm/rerank_results" / first_stage
        (path,) = folder.glob(f"output_v2_aug_vicuna_7b_4096_100_*_{collection}_*.txt")
        return path

    # -- steps ---------------------------------------------------------------------------------------------------

    def make(self, needed: Container[str]) -> None:
        """Everything that training and testing read.

        Args:
            needed: the verdicts that are trained on.
        """
        for collection in COLLECTIONS:
            for split in SPLITS:
                queries = read_queries(self.beir(collection))
                asked = {key: queries[key] for key in self.qrels(f"{collection}.{split}")}
                if split == "train":
                    asked = dict(self._some(sorted(asked.items())))
                self._retrieve(f"{collection}.{split}", self.beir(collection) / "corpus.jsonl", asked)
        self._make_llm_groups()
        for collection in COLLECTIONS:
            self._order_untrained(f"{collection}.train")
            self._make_judged_groups(collection)
        if "known_item" in needed:
            self._make_known_items()
            self._make_known_item_groups()
        self.check_no_test_query()

    def _some(self, rows: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        return sorted(rows, key=lambda row: drawn(row[0]))[: self.max_queries]

    def _retrieve(self, name: str, corpus: Path, queries: Mapping[str, str]) -> None:
        path = self.candidates(name)
        if path.exists():
            return
        asked = self.out / "queries" / f"{name}.jsonl"
        lines = [write_json_line({"query_id": key, "query": text}) for key, text in queries.items()]
        asked.parent.mkdir(parents=True, exist_ok=True)
        write_whole(asked, lines, overwrite=True)
        paths = ["--output_path", f"{path.with_suffix('.trec')}", "--rerank_input_path", f"{path}"]
        paths += ["--corpus_path", f"{corpus}", "--queries_path", f"{asked}"]
        depth = DEPTH if name.endswith(("dev", "test")) else TRAIN_DEPTH
        retrieve.main([*paths, "--depth", f"{depth}", "--overwrite_output_dir", "--disable_tqdm"])

    # Known items

    def _make_known_items(self) -> None:
        """Sentences as queries, over all passages of dl20's lists and of both collections as one collection."""
        if self.candidates("known_item").exists():
            return
        passages = list(self._all_passages())
        items = {item.docid: (query, item) for query, item in known_items(passages)}
        corpus = self.out / "known_item_corpus.jsonl"
        rows = [{"docid": passage.docid, "title": passage.title, "text": passage.text} for passage in passages]
        write_whole(corpus, map(write_json_line, rows), overwrite=True)
        queries = dict(self._some([(docid, query) for docid, (query, _) in items.items()])[:NUM_KNOWN_ITEMS])
        self._retrieve("known_item", corpus, queries)
        # The sentence that is the query is taken out of the passage that it comes from
        lists = [
            replace(
                entry,
                passages=tuple(
                    items[entry.query_id][1] if passage.docid == entry.query_id else passage
                    for passage in entry.passages
                ),
            ).top(GROUP_LENGTH)
            for entry in read_candidates(self.candidates("known_item"))
        ]
        write_whole(self.candidates("known_item"), write_candidates_lines(lists), overwrite=True)

    def _all_passages(self) -> Iterator[Passage]:
        known: set[str] = set()
        for first_stage in FIRST_STAGES:
            for entry in load_candidates(self.shipped(first_stage)):
                for passage in entry.passages:
                    if passage.docid not in known:
                        known.add(passage.docid)
                        yield passage
        for collection in COLLECTIONS:
            for passage in read_passages(self.beir(collection) / "corpus.jsonl"):
                yield replace(passage, docid=f"{collection}.{passage.docid}")

    # Verdicts

    def _make_llm_groups(self) -> None:
        """RankVicuna on each first stage, GPT-3.5's five orders, and all six on BM25, fused by reciprocal ranks."""
        folder = self.data / "rank_llm/rerank_results/BM25"
        gpt = sorted(folder.glob("gpt-3.5-turbo_*_dl20_*.txt"))
        if len(gpt) != NUM_GPT_RUNS:
            raise SystemExit(f"error: {folder} must hold {NUM_GPT_RUNS} runs of GPT-3.5 on dl20; got {len(gpt)}")
        self._merge("gpt", "BM25", gpt)
        self._merge("fused", "BM25", [self.teacher_run("BM25"), *gpt])
        parts = [f"rank_vicuna.{first_stage}" for first_stage in FIRST_STAGES]
        for part, first_stage in zip(parts, FIRST_STAGES, strict=True):
            self._merge(part, first_stage, [self.teacher_run(first_stage)])
        if not self.groups("rank_vicuna").exists():
            # A query stands once for each first stage, under a name of its own
            named = [
                replace(group, query_id=f"{group.query_id}.{part}")
                for part in parts
                for group in read_groups(self.groups(part))
            ]
            write_groups(self.groups("rank_vicuna"), named)

    def _merge(self, name: str, first_stage: str, runs: Iterable[Path]) -> None:
        if not self.groups(name).exists():
            paths = ["--dataset_path", f"{self.shipped(first_stage)}", "--output_path", f"{self.groups(name)}"]
            teach.main(["--teacher", "merged", "--merge_paths", *map(str, runs), *paths, "--depth", f"{DEPTH}"])

    def _order_untrained(self, name: str) -> None:
        """The run of MiniLM before any training: MaxSim over its token vectors, mixed with BM25."""
        path = self.out / "groups" / f"{name}.untrained.tsv"
        if not path.exists():
            student = ["--model_name_or_path", f"{self.backbone}", "--student", "colbert", "--use_cpu"]
            paths = ["--dataset_path", f"{self.candidates(name)}", "--rerank_output_path", f"{path}"]
            paths += ["--passage_vectors_path", f"{self.out}/vectors/{name}"]  # each passage encoded once
            mixed = ["--first_stage_weight", f"{UNTRAINED_WEIGHT}", "--depth", f"{GROUP_LENGTH}"]
            rerank.main([*student, *paths, *mixed, "--output_dir", f"{self.out}", "--overwrite_output_dir"])
            shutil.rmtree(self.out / "vectors")

    def _make_judged_groups(self, collection: str) -> None:
        """Relevant passages first, by their grades, the others in the order of the untrained student."""
        if self.groups(collection).exists():
            return
        passages = {passage.docid: passage for passage in read_passages(self.beir(collection) / "corpus.jsonl")}
        qrels = self.qrels(f"{collection}.train")
        untrained = read_run(self.out / "groups" / f"{collection}.train.untrained.tsv")
        groups = []
        for entry in read_candidates(self.candidates(f"{collection}.train")):
            grades = {docid: grade for docid, grade in qrels[entry.query_id].items() if grade > 0}
            chosen = sorted(grades, key=lambda docid: drawn(docid, entry.query_id))[:MAX_POSITIVES]
            added = [passages[docid] for docid in chosen if docid in passages]
            others = [passage for passage in entry.passages if passage.docid not in grades][: GROUP_LENGTH - len(added)]
            groups.append(
                ordered_group(
                    replace(entry, passages=(*added, *others), scores=()), grades, untrained.get(entry.query_id, {})
                )
            )
        self.groups(collection).parent.mkdir(exist_ok=True)
        write_groups(self.groups(collection), self._without_test_queries(groups))

    def _make_known_item_groups(self) -> None:
        if self.groups("known_item").exists():
            return
        self._order_untrained("known_item")
        untrained = read_run(self.out / "groups" / "known_item.untrained.tsv")
        groups = [
            ordered_group(entry, {entry.query_id: 1}, untrained[entry.query_id])
            for entry in read_candidates(self.candidates("known_item"))
        ]
        write_groups(self.groups("known_item"), self._without_test_queries(groups))

    # Leaks

    @cached_property
    def test_queries(self) -> set[str]:
        """The words of every query that is tested on, or that a choice is made on (dl20's are trained on, too)."""
        paths = [self.candidates("dl19")]
        paths += [self.candidates(f"{collection}.{split}") for collection in COLLECTIONS for split in ("dev", "test")]
        return {words(entry.query) for path in paths for entry in load_candidates(path)}

    def _without_test_queries(self, groups: Sequence[Group]) -> list[Group]:
        tested = self.test_queries
        kept = [group for group in groups if words(group.query) not in tested]
        print(f"{len(groups) - len(kept)} of {len(groups)} queries are also tested on, and left out", flush=True)
        return kept

    def check_no_test_query(self) -> None:
        """Refuse to go on with a test query among the training data.

        Raises:
            SystemExit: if there is one.
        """
        tested = self.test_queries
        for path in sorted((self.out / "groups").glob("*.jsonl")):
            leaked = [group.query_id for group in read_groups(path) if words(group.query) in tested]
            if leaked:
                raise SystemExit(f"error: {path} trains on {len(leaked)} test queries, {leaked[0]} first")


NUM_KNOWN_ITEMS = 6000
MIN_QUERY_WORDS, MAX_QUERY_WORDS, MIN_REST_WORDS = 5, 24, 20


def known_items(passages: Iterable[Passage]) -> Iterator[tuple[str, Passage]]:
    """Known-item queries: one sentence of a passage, and the passage without it; passages too short give none."""
    for passage in passages:
        sentences = re.split(r"(?<=[.!?])\s+", passage.text)
        fitting = [
            number
            for number, sentence in enumerate(sentences)
            if MIN_QUERY_WORDS <= len(sentence.split()) <= MAX_QUERY_WORDS
        ]
        if not fitting:
            continue
        chosen = fitting[int(drawn(passage.docid, "sentence") * len(fitting))]
        rest = " ".join(sentence for number, sentence in enumerate(sentences) if number != chosen)
        if len(rest.split()) >= MIN_REST_WORDS:
            yield sentences[chosen], replace(passage, text=rest, title="")


def ordered_group(entry: Candidates, grades: Mapping[str, int], scores: Mapping[str, float]) -> Group:
    """The verdict of judgements, and behind them of scores; what has no score stands last."""
    worst = min(scores.values(), default=0.0) - 1.0
    spread = max(scores.values(), default=0.0) - worst + 1.0
    values = [grades.get(passage.docid, 0) * spread + scores.get(passage.docid, worst) for passage in entry.passages]
    return Group(entry.query_id, entry.query, entry.passages, from_scores(values), len(values), scores=tuple(values))
