"""What bench.py runs on: real texts from a folder, real weights from a package, and models of a given shape."""

from __future__ import annotations

import json
import os
import random
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import quickstart_weights
import tiny_models
from bench_measure import MissingError

from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.prompts import PAIR_PROMPTS
from tevatron_distill.prompts.text import render_passage
from tevatron_distill.retrieval.bm25 import BM25
from tevatron_distill.schema import Candidates, Group, Passage, Qrels

VARIABLE = "TEVATRON_DISTILL_DATA"
NFCORPUS = "nfcorpus/nfcorpus.zip"
MSMARCO = "rank_llm/retrieve_results/BM25/retrieve_results_dl19.json"
MSMARCO_QRELS = "msmarco_dl/qrels/qrels.dl19-passage.txt"
VOCABULARY = 16_384
"""Tokens of the tokenizers that are trained on the texts."""

SMALL_HEAD: dict[str, Any] = {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1536}
"""A decoder of 33M whose head takes a quarter of the products, as Qwen3-0.6B's does."""

LARGE_HEAD: dict[str, Any] = {
    "hidden_size": 512,
    "num_hidden_layers": 6,
    "intermediate_size": 896,
    "vocab_size": 32_000,
    "tie_word_embeddings": True,
}
"""A decoder of 29M whose head takes more than half of the products, as models of this size and real vocabularies have
it."""


def data_file(name: str) -> Path:
    """A file of the folder of real texts.

    Raises:
        MissingError: if there is none.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise MissingError(f"set {VARIABLE} to a folder that holds {NFCORPUS} and {MSMARCO}")
    path = Path(folder, name)
    if not path.is_file():
        raise MissingError(f"{path} is missing")
    return path


@cache
def nfcorpus(depth: int, split: str = "test") -> tuple[list[Candidates], Qrels]:
    """The queries of a part of NFCorpus with what BM25 finds for them, and their judgements."""
    with zipfile.ZipFile(data_file(NFCORPUS)) as archive:

        def lines(name: str) -> list[str]:
            return archive.read(f"nfcorpus/{name}").decode("utf-8").splitlines()

        rows = [json.loads(line) for line in lines("corpus.jsonl")]
        queries = {row["_id"]: row["text"] for row in map(json.loads, lines("queries.jsonl"))}
        judged = [line.split("\t") for line in lines(f"qrels/{split}.tsv")[1:]]
    qrels: dict[str, dict[str, int]] = {}
    for query_id, docid, grade in judged:
        qrels.setdefault(query_id, {})[docid] = int(grade)
    passages = {row["_id"]: Passage(row["_id"], row["text"], row.get("title", "")) for row in rows}
    index = BM25(list(passages.values()))
    found = []
    for query_id in qrels:
        ranked = index.best(queries[query_id], depth)
        if len(ranked) == depth:
            shown, scores = zip(*((passages[docid], score) for docid, score in ranked), strict=True)
            found.append(Candidates(query_id, queries[query_id], shown, scores))
    return found, qrels


@cache
def msmarco(depth: int) -> tuple[list[Candidates], Qrels]:
    """The judged queries of TREC DL 2019 with what BM25 finds among MS MARCO's passages, and their judgements."""
    rows = json.loads(data_file(MSMARCO).read_text(encoding="utf-8"))
    found = []
    for row in rows:
        hits = row["hits"][:depth]
        shown = tuple(Passage(str(hit["docid"]), hit["content"]) for hit in hits)
        scores = tuple(float(depth - place) for place in range(len(shown)))
        found.append(Candidates(str(hits[0]["qid"]), row["query"], shown, scores))
    qrels = read_qrels(str(data_file(MSMARCO_QRELS)))
    return [one for one in found if one.query_id in qrels], qrels


def mixed(num_queries: int, depth: int, seed: int = 0) -> list[Candidates]:
    """Queries of both collections, as many of each, in mixed order."""
    draw = random.Random(seed)
    lists = [
        one
        for collection in (nfcorpus(depth)[0], msmarco(depth)[0])
        for one in draw.sample(sorted(collection, key=lambda one: one.query_id), num_queries // 2)
    ]
    draw.shuffle(lists)
    return lists


def as_pairs(lists: Sequence[Candidates]) -> list[tuple[str, str]]:
    """Query and passage of every row, title first, as our cross-encoders read them."""
    return [(one.query, render_passage(passage, "tevatron")) for one in lists for passage in one.passages]


def as_groups(lists: Sequence[Candidates], seed: int = 0) -> list[Group]:
    """Groups whose permutation is drawn."""
    draw = random.Random(seed)
    return [
        Group(one.query_id, one.query, one.passages, tuple(draw.sample(range(size), size)), size)
        for one, size in ((one, len(one.passages)) for one in lists)
    ]


def cross_encoder(folder: Path) -> Path:
    """MiniLM-L6 (22M) with a head that is drawn: it ranks nothing, but costs and rounds as one that does.

    Raises:
        MissingError: if the package of the weights is missing.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = folder / "cross_encoder"
    if not (path / "config.json").exists():
        try:
            source = quickstart_weights.weights_folder()
        except SystemExit as error:
            raise MissingError(str(error)) from error
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype="float32")
        with torch.no_grad():
            model.classifier.weight.normal_(0.0, 0.5)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            setattr(model.config, name, 0.0)  # so that two trainings of it can be compared
        model.save_pretrained(path)
        AutoTokenizer.from_pretrained(source, model_max_length=512).save_pretrained(path)
    return path


def causal(folder: Path, name: str, **shape: Any) -> Path:
    """A decoder of Qwen3's kind with weights that are drawn and a tokenizer that is trained on the texts."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    path = folder / name
    if not (path / "config.json").exists():
        path.mkdir(parents=True, exist_ok=True)
        tiny_models.train_tokenizer(path, training_texts(), VOCABULARY)
        torch.manual_seed(3)
        sizes = {"vocab_size": VOCABULARY, "tie_word_embeddings": False, **SMALL_HEAD, **shape}
        config = Qwen3Config(
            num_attention_heads=sizes["hidden_size"] // 64,
            num_key_value_heads=sizes["hidden_size"] // 128,
            head_dim=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            **sizes,
        )
        Qwen3ForCausalLM(config).save_pretrained(path)
    return path


def t5(folder: Path) -> Path:
    """A T5 of the shape of FLAN-T5-small (77M, 32,128 tokens) with weights that are drawn."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    path = folder / "t5"
    if not (path / "config.json").exists():
        path.mkdir(parents=True, exist_ok=True)
        tiny_models.train_tokenizer(path, training_texts(), VOCABULARY)
        torch.manual_seed(4)
        config = T5Config(
            vocab_size=32_128,
            d_model=512,
            d_kv=64,
            d_ff=1024,
            num_layers=8,
            num_heads=6,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            decoder_start_token_id=0,
            pad_token_id=0,
            eos_token_id=2,
            scale_decoder_outputs=False,
        )
        model = T5ForConditionalGeneration(config)
        model.lm_head.weight = torch.nn.Parameter(torch.randn(config.vocab_size, config.d_model) * 0.05)
        model.save_pretrained(path)
    return path


@cache
def training_texts() -> list[str]:
    """Texts for a tokenizer: so many, and the prompts among them, that words become as few tokens as a real one's."""
    prompts = [prompt.render("", ("", ""), is_encoder_decoder=False).text() for prompt in PAIR_PROMPTS.values()]
    texts = [text for pair in as_pairs([*msmarco(100)[0], *nfcorpus(20)[0][::5]]) for text in pair]
    return [*texts, *prompts * 50]
