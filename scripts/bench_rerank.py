"""bench.py's rows of reranking."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import bench_inputs
import bench_train
import peers
import torch
from bench_measure import (
    MissingError,
    Outcome,
    Setting,
    Watch,
    apart,
    bare_products,
    compared,
    counting_tokens,
    in_turn,
    largest_difference,
    peak_resident,
    reset_peak,
    resident,
)
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tevatron_distill.metrics import evaluate
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates

NUM_QUERIES, DEPTH = 16, 25
SHORT_LISTS = 80, 5
"""So many queries of so many passages; in their order more than half of a batch of 64 is padding."""
WIDE = 151_936
"""Qwen3's vocabulary."""


def versus_sentence_transformers(setting: Setting) -> Outcome:
    """CrossEncoder.predict, all pairs in one call, as its defaults are."""
    from sentence_transformers import CrossEncoder

    def make(path: str, lists: Sequence[Candidates]) -> Callable[[], list[float]]:
        model = CrossEncoder(path, device="cpu", max_length=512, activation_fn=torch.nn.Identity())
        pairs = bench_inputs.as_pairs(lists)
        return lambda: model.predict(pairs, show_progress_bar=False).tolist()

    return _versus(setting, 1.4, "sentence-transformers", make)


def versus_flag_embedding(setting: Setting) -> Outcome:
    """FlagReranker.compute_score, all pairs in one call."""
    try:
        importlib.metadata.version("FlagEmbedding")
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingError("pip install FlagEmbedding") from error
    from FlagEmbedding import FlagReranker

    def make(path: str, lists: Sequence[Candidates]) -> Callable[[], list[float]]:
        model = FlagReranker(path, use_fp16=False, devices=["cpu"], max_length=512)
        pairs = bench_inputs.as_pairs(lists)
        return lambda: model.compute_score(pairs)

    return _versus(setting, None, "FlagEmbedding", make)


def versus_tevatron(setting: Setting, num_queries: int = NUM_QUERIES, depth: int = DEPTH) -> Outcome:
    """The loop of Tevatron's rerank driver."""

    def make(path: str, lists: Sequence[Candidates]) -> Callable[[], list[float]]:
        model = AutoModelForSequenceClassification.from_pretrained(path, dtype="float32").eval()
        tokenizer = AutoTokenizer.from_pretrained(path)
        pairs = bench_inputs.as_pairs(lists)
        return lambda: peers.tevatron_scores(model, tokenizer, pairs)

    return _versus(setting, 3.8, "Tevatron's loop", make, num_queries, depth)


def _versus(
    setting: Setting,
    reach: float | None,
    name: str,
    make: Callable[[str, Sequence[Candidates]], Callable[[], list[float]]],
    num_queries: int = NUM_QUERIES,
    depth: int = DEPTH,
) -> Outcome:
    path = str(bench_inputs.cross_encoder(setting.folder))
    lists = bench_inputs.mixed(num_queries, depth)
    reranker = Reranker.from_pretrained(path, device="cpu")
    timed = in_turn(
        {name: make(path, lists), "ours": lambda: list(chain(*reranker.score_candidates(lists)))}, setting.repeats
    )
    count = reranker.batcher.count
    computed = count.padded // setting.repeats
    last = f"encoder.layer.{reranker.model.config.num_hidden_layers - 1}."  # computed for a row's first token alone
    return compared(
        timed,
        setting,
        reach,
        {"scores": largest_difference(timed["ours"].result, timed[name].result)},
        products=bare_products(reranker.model, ("classifier", "pooler", last), setting.clock) * computed,
        real_share=count.real_share,
        pairs=sum(len(one.passages) for one in lists),
        tokens=count.tokens // setting.repeats,
        computed_tokens=computed,
    )


def real_tokens(setting: Setting) -> Outcome:
    """What of a batch is no padding, over the lists of both collections."""
    lists = bench_inputs.mixed(NUM_QUERIES, DEPTH)
    reranker = Reranker.from_pretrained(str(bench_inputs.cross_encoder(setting.folder)), device="cpu")
    with counting_tokens(reranker.model) as counted:
        reranker.score_candidates(lists)
    share = reranker.batcher.count.tokens / counted.computed
    return Outcome(f"{share:.3f}", share, share >= 0.97, "", {"real_share": share, "computed": counted.computed})


def int8(setting: Setting) -> Outcome:
    """A student in int8 by onnxruntime against sentence-transformers in float32, and what it loses of nDCG@10."""
    from sentence_transformers import CrossEncoder

    path = bench_train.ranker(setting)
    lists = bench_inputs.mixed(NUM_QUERIES, DEPTH)
    model = CrossEncoder(path, device="cpu", max_length=512, activation_fn=torch.nn.Identity())
    pairs = bench_inputs.as_pairs(lists)
    small = Reranker.from_pretrained(
        path, device="cpu", backend="onnx", onnx_dtype="int8", cache_dir=str(setting.folder), rerank_max_len=512
    )
    timed = in_turn(
        {
            "sentence-transformers": lambda: model.predict(pairs, show_progress_bar=False).tolist(),
            "ours": lambda: small.score_candidates(lists),
        },
        setting.repeats,
    )
    outcome = compared(timed, setting, 1.6, {})
    whole, small = (
        Reranker.from_pretrained(path, device="cpu", cache_dir=str(setting.folder), **backend)
        for backend in ({}, {"backend": "onnx", "onnx_dtype": "int8"})
    )
    return _with_quality(outcome, whole.score_candidates, small.score_candidates, 0.003, depth=50)


def cascade(setting: Setting) -> Outcome:
    """A student of one layer on 100 passages and the whole one on its best 20, against the whole one on 100."""
    from tevatron_distill.reranker.cascade import Cascade

    path, first = bench_train.ranker(setting), bench_train.small_ranker(setting)
    whole = Reranker.from_pretrained(path, device="cpu", rerank_max_len=512)
    both = Cascade([Reranker.from_pretrained(first, device="cpu", passage_max_len=512), whole], [20])
    lists = bench_inputs.mixed(4, 100)
    timed = in_turn(
        {"one student": lambda: whole.score_candidates(lists), "ours": lambda: both.score_candidates(lists)},
        setting.repeats,
    )
    outcome = compared(timed, setting, 1.8, {})
    whole = Reranker.from_pretrained(path, device="cpu")
    both = Cascade([Reranker.from_pretrained(first, device="cpu"), whole], [20])
    return _with_quality(outcome, whole.score_candidates, both.score_candidates, 0.005, depth=100)


def _with_quality(
    outcome: Outcome,
    first: Callable[[Sequence[Candidates]], list[list[float]]],
    second: Callable[[Sequence[Candidates]], list[list[float]]],
    most: float,
    depth: int,
) -> Outcome:
    """An outcome with the nDCG@10 of two rankers on NFCorpus' test queries that have so many candidates, at the lengths
    that they were trained with.
    """
    lists, qrels = bench_inputs.nfcorpus(depth)
    judged = {one.query_id: qrels[one.query_id] for one in lists}
    before, after = (
        evaluate(as_run(lists, score(lists)), judged, ["nDCG@10"]).mean["nDCG@10"] for score in (first, second)
    )
    outcome.measured += f"; nDCG@10 of {len(lists)} queries {before:.4f} → {after:.4f}"
    outcome.met = bool(outcome.met) and before - after <= most
    outcome.raw["ndcg@10"] = (before, after)
    return outcome


def as_run(lists: Sequence[Candidates], scores: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    """Scores as a run."""
    return {
        one.query_id: dict(zip((passage.docid for passage in one.passages), line, strict=True))
        for one, line in zip(lists, scores, strict=True)
    }


def yes_token(setting: Setting) -> Outcome:
    """A Yes-token student of 151,936 tokens against the logits of all of them, at all places; no such tensor at all."""
    path = str(bench_inputs.causal(setting.folder, "wide", vocab_size=WIDE, hidden_size=256, num_hidden_layers=6))
    lists = bench_inputs.msmarco(20)[0][:2]
    reranker = Reranker.from_pretrained(path, "yes_token", device="cpu", dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval()
    prompts, answer = yes_prompts(reranker, lists)
    length = reranker.layout.settings.rerank_max_len
    timed = in_turn(
        {
            "all logits": lambda: peers.full_logits_scores(
                model, reranker.layout.tokenizer, prompts, answer, length, batch_size=8
            ),
            "ours": lambda: list(chain(*reranker.score_candidates(lists))),
        },
        setting.repeats,
    )
    with Watch(WIDE) as watch:
        reranker.score_candidates(lists)
    memory = {
        who: apart("bench_rerank", "memory_of_yes_token", setting.threads, path=path, who=who)
        for who in ("ours", "all logits")
    }
    outcome = compared(
        timed,
        setting,
        1.0,
        {"scores": largest_difference(timed["ours"].result, timed["all logits"].result)},
        products=bare_products(reranker.model, ("score",), setting.clock)
        * reranker.batcher.count.padded
        / (setting.repeats + 1),
        real_share=reranker.batcher.count.real_share,
        memory_mib=memory,
        vocabulary_sized=watch.found,
    )
    outcome.measured += (
        f"; {memory['all logits']:.0f} → {memory['ours']:.0f} MiB; {len(watch.found)} vocabulary-sized tensors"
    )
    outcome.met = bool(outcome.met) and not watch.found
    return outcome


def yes_prompts(reranker: Reranker, lists: Sequence[Candidates]) -> tuple[list[str], int]:
    """The prompts of a Yes-token student's rows as text, and the token of its answer."""
    layout: Any = reranker.layout
    rows = [row for one in lists for row in layout.rows(one)]
    return [
        layout.tokenizer.decode(row.input_ids, skip_special_tokens=True) for row in rows
    ], layout.settings.yes_token_id


def memory_of_yes_token(path: str, who: str) -> float:
    """MiB that scoring takes beside the model's."""
    lists = bench_inputs.msmarco(20)[0][:1]
    if who == "ours":
        reranker = Reranker.from_pretrained(path, "yes_token", device="cpu", dtype="float32")
        reset_peak()
        before = resident()
        reranker.score_candidates(lists)
    else:
        model = AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval()
        tokenizer = AutoTokenizer.from_pretrained(path)
        prompts = [f"{query} {passage}" for query, passage in bench_inputs.as_pairs(lists)]
        reset_peak()
        before = resident()
        peers.full_logits_scores(model, tokenizer, prompts, 5, 512, batch_size=8)
    return peak_resident() - before
