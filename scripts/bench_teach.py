"""bench.py's rows of teaching."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import bench_inputs
import bench_questions
import peers
from bench_measure import Outcome, Setting, bare_products, compared, counting_tokens, in_turn, largest_difference
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from tevatron_distill.engines import ENGINES, AnswerCache
from tevatron_distill.prompts import PAIR_PROMPTS
from tevatron_distill.schema import Candidates, Group
from tevatron_distill.sorting import SORTS
from tevatron_distill.teachers import AskingTeacher, PairwiseOracle

NUM_PASSAGES = 20
PROMPT = PAIR_PROMPTS["instructdistill"]
ERRING = ("slips of 1, noise .25", "RankVicuna, noise .25")
"""Judges of `bench_questions` that count: the first finds with all pairs what FLAN-T5-XL is published to find."""
SHOWN = ("grades, never errs", "grades, 10 % at random")
"""Others that are shown."""


def prp_causal(setting: Setting) -> Outcome:
    """All pairs of 20 passages, asked of a decoder in both orders."""
    path = bench_inputs.causal(setting.folder, "large_head", **bench_inputs.LARGE_HEAD)
    return _prp(setting, path, AutoModelForCausalLM, 4.5)


def prp_small_head(setting: Setting) -> Outcome:
    """The same, of a decoder whose head is a smaller part of it."""
    path = bench_inputs.causal(setting.folder, "small_head", **bench_inputs.SMALL_HEAD)
    return _prp(setting, path, AutoModelForCausalLM, None)


def prp_t5(setting: Setting) -> Outcome:
    """The same, asked of an encoder-decoder."""
    return _prp(setting, bench_inputs.t5(setting.folder), AutoModelForSeq2SeqLM, 1.3)


def _prp(setting: Setting, path: Path, auto_class: Any, reach: float | None) -> Outcome:
    decodes = auto_class is AutoModelForSeq2SeqLM
    entry = bench_inputs.msmarco(NUM_PASSAGES)[0][0]
    model = auto_class.from_pretrained(path, dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    prompts, labels, begin = pair_prompts(tokenizer, entry, decodes)
    teacher = OurTeacher(str(path))
    teacher.teach(Candidates(entry.query_id, entry.query, entry.passages[:2], entry.scores[:2]))  # loads the weights
    timed = in_turn(
        {
            "published loop": lambda: peers.prp_answers(model, tokenizer, prompts, labels, begin),
            "ours": lambda: teacher.teach(entry),
        },
        min(2, setting.repeats),
    )
    loop, group = timed["published loop"].result, timed["ours"].result
    with counting_tokens(model) as theirs:
        peers.prp_answers(model, tokenizer, prompts[:10], labels, begin)
    with counting_tokens(teacher.model) as ours:
        teacher.teach(entry)
    real = sum(len(ids) for ids in tokenizer(prompts)["input_ids"]) + len(prompts) * len(begin)
    outcome = compared(
        timed,
        setting,
        reach,
        {"preferences": largest_difference(preferences(loop), [p for _, _, p in group.preferences or ()])},
        products=bare_products(model, ("lm_head",), setting.clock) * ours.computed if not decodes else None,
        prompts=len(prompts),
        tokens_of_all_prompts=real,
        computed_tokens=ours.computed,
        computed_by_loop_a_batch=theirs.computed,
        same_permutation=list(group.permutation) == peers.prp_permutation(NUM_PASSAGES, loop),
    )
    computed = f"{ours.computed} tokens computed for {real} of {len(prompts)} prompts"
    outcome.limit = ", ".join(filter(None, [computed, outcome.limit]))
    return outcome


def pair_prompts(tokenizer: Any, entry: Candidates, decodes: bool) -> tuple[list[str], list[int], list[int]]:
    """The prompts of all ordered pairs as one text each, the tokens of the labels, how the decoder's output begins."""
    texts = [PROMPT.passage_text(passage) for passage in entry.passages]
    wordings = [
        PROMPT.render(entry.query, (texts[i], texts[j]), is_encoder_decoder=decodes)
        for i, j in itertools.permutations(range(len(texts)), 2)
    ]
    prefix = wordings[0].prefix
    labels = [tokenizer(f"{prefix} {label}", add_special_tokens=False)["input_ids"][-1] for label in ("A", "B")]
    if decodes:
        begin = [0, *tokenizer(prefix, add_special_tokens=False)["input_ids"]]
        return [wording.text() for wording in wordings], labels, begin
    return [wording.text() + prefix for wording in wordings], labels, []


def preferences(answers: Sequence[tuple[float, ...]]) -> list[float]:
    """How likely i is better than j, both orders averaged, for the pairs of ``itertools.combinations``."""
    size = round((1 + math.sqrt(1 + 4 * len(answers))) / 2)
    first = {
        pair: 1.0 / (1.0 + math.exp(b - a))
        for pair, (a, b) in zip(itertools.permutations(range(size), 2), answers, strict=True)
    }
    return [(first[i, j] + 1.0 - first[j, i]) / 2.0 for i, j in itertools.combinations(range(size), 2)]


class OurTeacher:
    """All pairs of a query by the engine ``hf``; each time anew, from an empty cache."""

    def __init__(self, path: str) -> None:
        self.engine = ENGINES["hf"](path, dtype="float32", chat_template="never", max_length=1024)

    @property
    def model(self) -> Any:
        """The engine's model."""
        return self.engine._forward._model

    def teach(self, entry: Candidates) -> Group:
        """The group of a query."""
        with AnswerCache(":memory:") as cache:
            teacher = AskingTeacher(PairwiseOracle(PROMPT), self.engine, SORTS["allpair"], "allpair", cache)
            teacher.prepare([entry])
            [(_, group)] = teacher.teach([entry])
        return group


def questions(setting: Setting) -> Outcome:
    """Questions for the top 10 of 100, by our sorts and llm-rankers' loops, and what 60 find under judges that err.

    Counted in 20 drawn orders under a judge who knows. `bench_questions` has the judges that err, on TREC DL 2019 and
    2020 with BM25's order as prior.
    """
    counts: dict[str, list[int]] = {}
    for seed in range(20):
        worth = random.Random(seed).sample(range(100), 100)
        judge = partial(max, key=worth.__getitem__)
        counts.setdefault("allpair", []).append(asked_by(SORTS["allpair"](100), worth))
        counts.setdefault("rechecked_heapsort", []).append(asked_by(SORTS["rechecked_heapsort"](100), worth))
        for name, num_child in (("heapsort", 1), ("setwise", 3)):
            counts.setdefault(name, []).append(asked_by(SORTS["heapsort"](100, 10, num_child), worth))
            _, theirs = peers.llm_rankers_heapsort(100, judge, num_child, 10)
            counts.setdefault(f"llm-rankers' {name}", []).append(theirs)
    means = {name: statistics.mean(found) for name, found in counts.items()}
    bench_inputs.data_file(bench_inputs.MSMARCO)
    bench_questions.FOLDER = bench_inputs.data_file(bench_inputs.MSMARCO_QRELS).parents[2]
    study = bench_questions.measure(["rechecked_heapsort"], [*SHOWN, *ERRING], None, 2)
    rows = {judge: row["rechecked_heapsort"] for judge, row in study.items()}
    said = [f"{name} {mean:.0f}" for name, mean in means.items()]
    lost = [f"{judge} {row.ndcg - row.allpair:+.3f}" for judge, row in rows.items()]
    return Outcome(
        f"{', '.join(said)}; nDCG@10 of rechecked_heapsort (at most {max(row.most for row in rows.values())}) against "
        f"allpair's: {', '.join(lost)}",
        None,
        all(rows[judge].most <= 60 and rows[judge].ndcg >= rows[judge].allpair - 0.01 for judge in ERRING),
        "",
        {"questions": means, "study": {judge: row._asdict() for judge, row in rows.items()}},
    )


def asked_by(sort: Any, worth: Sequence[float]) -> int:
    """Different questions that a sort asks a judge who knows; both orders of a pair are one."""
    asked: set[tuple[int, ...]] = set()
    answers: Any = None
    while True:
        try:
            round_of = sort.send(answers)
        except StopIteration:
            return len(asked)
        asked.update(tuple(sorted(question)) for question in round_of)
        answers = [tuple(float(worth[place]) for place in question) for question in round_of]
