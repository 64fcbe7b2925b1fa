"""Scores of students that read a window of passages at once; windows walk over longer lists as a listwise teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from tevatron_distill.formats.runs import strictly_decreasing
from tevatron_distill.layouts.list import ListLayout, Window, stack
from tevatron_distill.layouts.rows import Row
from tevatron_distill.reranker.batches import Batcher
from tevatron_distill.schema import Candidates
from tevatron_distill.sorting import Answer, Question, run_in_lockstep, sliding_window


def score_windows(
    model: Any, layout: ListLayout, batcher: Batcher, candidates: Sequence[Candidates]
) -> list[list[float]]:
    """Order each list by windows; windows of all lists are batched together.

    A list of one window is scored by the log-probabilities of its identifiers. In a longer one each window's are
    shifted so that its mean over the passages that it shares with earlier windows stays, and then lowered where they
    contradict the final order. Where the order is generated, a passage's score is 1 / rank.

    Returns:
        Strictly decreasing scores along each list's final order, aligned with its passages.
    """
    settings = layout.settings
    steps = (settings.num_passes or 1, settings.window_size or 0, settings.step_size or 0)
    generates = settings.decode == "generation"
    known: list[dict[int, float]] = [{} for _ in candidates]

    def ask(asked: list[tuple[int, Question]]) -> list[list[float]]:
        windows = [
            layout.encode(candidates[index].query, [candidates[index].passages[place] for place in question])
            for index, question in asked
        ]
        if generates:
            return generated_answers(model, layout, batcher, windows)
        answers = logit_answers(model, layout, batcher, windows)
        for (index, question), answer in zip(asked, answers, strict=True):
            join_scores(known[index], question, answer)
        return answers

    sorts = [sliding_window(len(one.passages), *steps) for one in candidates]
    scores: list[list[float]] = [[] for _ in candidates]
    for index, found in run_in_lockstep(sorts, ask):
        ranks = range(1, len(found.order) + 1)
        values = [1 / rank for rank in ranks] if generates else [known[index].get(place, 0.0) for place in found.order]
        of_place = dict(zip(found.order, strictly_decreasing(values), strict=True))
        scores[index] = [of_place[place] for place in range(len(found.order))]
    return scores


def join_scores(known: dict[int, float], question: Question, answer: Answer) -> None:
    """Put a window's scores on the scale of those that are known: the mean over shared passages stays.

    >>> known = {2: -1.0, 3: -3.0}
    >>> join_scores(known, (1, 2), (-0.5, -2.5))
    >>> known
    {2: -1.0, 3: -3.0, 1: 1.0}
    """
    shared = [(known[place], score) for place, score in zip(question, answer, strict=True) if place in known]
    shift = sum(old - new for old, new in shared) / len(shared) if shared else 0.0
    known.update({place: score + shift for place, score in zip(question, answer, strict=True)})


def logit_answers(model: Any, layout: ListLayout, batcher: Batcher, windows: Sequence[Window]) -> list[list[float]]:
    """One forward pass a window: log-probabilities of its identifiers, the other tokens left out."""

    def forward(inputs: dict[str, Tensor], batch: list[int]) -> list[list[float]]:
        identifiers = [windows[place].identifier_ids for place in batch]
        ends = [layout.column(windows[place], inputs["input_ids"].shape[1]) for place in batch]
        logits = model(
            **{name: inputs[name] for name in layout.model_inputs if name in inputs},
            answer_index=torch.tensor(ends, device=batcher.device),
            identifier_ids=stack(identifiers, 0).to(batcher.device),
        )["logits"]
        return [row[: len(ids)].float().log_softmax(-1).tolist() for row, ids in zip(logits, identifiers, strict=True)]

    answers: list[list[float]] = [[] for _ in windows]
    for place, answer in batcher.run(layout, [window.row for window in windows], forward):
        answers[place] = answer
    return answers


def generated_answers(model: Any, layout: ListLayout, batcher: Batcher, windows: Sequence[Window]) -> list[list[float]]:
    """Greedy generation behind each window's prompt; the order that is read, as falling scores.

    What is wrong with an answer is repaired as published, and counted in ``batcher.count``.
    """
    sizes = [len(window.identifier_ids) for window in windows]
    padding_side = layout.settings.padding_side
    if padding_side != "left":
        raise ValueError(f"generation continues rows on the right and needs padding_side left; got {padding_side}")

    def forward(inputs: dict[str, Tensor], batch: list[int]) -> list[str]:
        made = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=max(layout.encode.room(sizes[place]) for place in batch),
                pad_token_id=layout.settings.pad_token_id,
                bos_token_id=model.generation_config.bos_token_id,
                eos_token_id=end_tokens(model, layout),
            ),
        )
        texts: list[str] = layout.tokenizer.batch_decode(
            made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return texts

    answers: list[list[float]] = [[] for _ in windows]
    prompts = [Row(window.row.input_ids[: window.answer_start]) for window in windows]
    for place, text in batcher.run(layout, prompts, forward):
        parsed = layout.encode.parse(text, sizes[place])
        batcher.count.answers += 1
        batcher.count.malformed += bool(parsed.problems)
        batcher.count.problems.update(parsed.problems)
        ranks = {position: rank for rank, position in enumerate(parsed.order, start=1)}
        answers[place] = [1 / ranks[position] for position in range(sizes[place])]
    return answers


def end_tokens(model: Any, layout: ListLayout) -> list[int]:
    """Tokens that end an answer: the tokenizer's and those that the model's folder names."""
    ends = model.generation_config.eos_token_id
    named = ends if isinstance(ends, list) else [ends]
    return sorted({layout.tokenizer.eos_token_id, *(end for end in named if end is not None)})
