"""The loops of published programs, written anew and plainly: what bench.py measures ours against.

They keep what decides their speed: the order of the rows, the size of a batch, its padding, and what is computed of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

PROMPTS_A_BATCH = 10


@torch.inference_mode()
def tevatron_scores(
    model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]], max_length: int = 512, batch_size: int = 64
) -> list[float]:
    """Tevatron's rerank driver: rows as they come, so many a batch, padded to a multiple of 16.

    Args:
        model: a sequence classifier of one label.
        tokenizer: its tokenizer; query and passage are joined as it joins pairs.
        pairs: query and passage.
        max_length: tokens of a row; the passage is cut.
        batch_size: rows of a batch.

    Source:
        texttron/tevatron dd06310, tevatron.reranker.driver.rerank.
    """
    scores: list[float] = []
    for start in range(0, len(pairs), batch_size):
        queries, passages = zip(*pairs[start : start + batch_size], strict=True)
        batch = tokenizer(
            *(list(queries), list(passages)),
            truncation="only_second",
            max_length=max_length,
            padding=True,
            pad_to_multiple_of=16,
            return_tensors="pt",
        )
        scores += model(**batch.to(model.device)).logits[:, 0].float().tolist()
    return scores


@torch.inference_mode()
def full_logits_scores(
    model: Any, tokenizer: Any, prompts: Sequence[str], answer: int, max_length: int, batch_size: int = 16
) -> list[float]:
    """The logit of one answer behind each prompt, read from the logits of all tokens at all places.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: whole prompts; those that are longer than ``max_length`` tokens are cut on the right.
        answer: the token whose logit is the score.
        max_length: tokens of a row.
        batch_size: prompts of a batch.

    Source:
        sunnweiwei/RankGPT, InstructDistill, the student's score.
    """
    scores: list[float] = []
    for start in range(0, len(prompts), batch_size):
        batch = _padded(tokenizer, prompts[start : start + batch_size], "left", max_length)
        scores += model(**batch.to(model.device)).logits[:, -1, answer].float().tolist()
    return scores


@torch.inference_mode()
def prp_answers(
    model: Any, tokenizer: Any, prompts: Sequence[str], labels: Sequence[int], begin: Sequence[int] = ()
) -> list[tuple[float, ...]]:
    """InstructDistill's teacher: ten prompts a batch in the order of the pairs, logits of all tokens at all places.

    Args:
        model: a causal language model or an encoder-decoder.
        tokenizer: its tokenizer.
        prompts: whole prompts.
        labels: tokens of the answers ``A`` and ``B``.
        begin: how the decoder's output begins, with an encoder-decoder.

    Returns:
        The logits of the labels, for each prompt.

    Source:
        sunnweiwei/RankGPT, InstructDistill/pairwise_ranking.py.
    """
    answers: list[tuple[float, ...]] = []
    for start in range(0, len(prompts), PROMPTS_A_BATCH):
        shown = prompts[start : start + PROMPTS_A_BATCH]
        batch = _padded(tokenizer, shown, "right" if begin else "left", 1024).to(model.device)
        if begin:
            batch["decoder_input_ids"] = torch.tensor([list(begin)] * len(shown), device=model.device)
        logits = model(**batch, use_cache=False).logits[:, -1]
        answers += [tuple(line) for line in logits[:, list(labels)].float().tolist()]
    return answers


def prp_permutation(num_passages: int, answers: Sequence[tuple[float, ...]]) -> list[int]:
    """InstructDistill's verdict on all ordered pairs: a point for each vote, ties by the first stage.

    Args:
        num_passages: n.
        answers: logits of ``A`` and ``B`` for the pairs of ``itertools.permutations(range(n), 2)``.
    """
    points = [1.0 / (10 + place) for place in range(num_passages)]
    for (i, j), (first, second) in zip(itertools.permutations(range(num_passages), 2), answers, strict=True):
        points[i] += 0.5 if first == second else float(first > second)
        points[j] += 0.5 if first == second else float(second > first)
    return sorted(range(num_passages), key=lambda place: -points[place])


def train_yes_token(
    model: Any,
    tokenizer: Any,
    groups: Sequence[tuple[Sequence[str], Sequence[float]]],
    answer: int,
    *,
    learning_rate: float,
    max_length: int,
) -> list[float]:
    """InstructDistill's training loop, a query a step: all passages padded to the longest, logits of all tokens.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        groups: the prompts of a query's passages, and their labels.
        answer: the token whose logit is the score.
        learning_rate: AdamW's.
        max_length: tokens of a prompt.

    Returns:
        The loss of each step.

    Source:
        sunnweiwei/RankGPT, InstructDistill/instruction_distill.py.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    losses = []
    model.train()
    for prompts, labels in groups:
        batch = _padded(tokenizer, prompts, "left", max_length)
        scores = model(**batch.to(model.device)).logits[:, -1, answer].float()
        loss = plain_rank_net(scores, torch.tensor(labels))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def plain_rank_net(scores: Tensor, labels: Tensor) -> Tensor:
    """RankNet over one query: mean of ``log(1 + exp(s_j - s_i))`` over pairs with a higher label on i, float ``[]``."""
    ordered = labels[:, None] > labels[None, :]  # [G, G]
    return torch.nn.functional.softplus(scores[None, :] - scores[:, None])[ordered].mean()


def llm_rankers_heapsort(
    num_passages: int, ask: Callable[[Sequence[int]], int], num_child: int, top_k: int
) -> tuple[list[int], int]:
    """llm-rankers' heap sort by questions that name the best of a parent and its children.

    Args:
        num_passages: n.
        ask: takes places and returns the best of them.
        num_child: children of a parent; with 1 the heap is binary and asks about two at a time (PRP).
        top_k: how many are found.

    Returns:
        The best places, best first, and how many questions were asked.

    Source:
        ielab/llm-rankers, llmrankers/setwise.py and pairwise.py.
    """
    heap, asked = list(range(num_passages)), 0
    arity = max(2, num_child)

    def sift(size: int, parent: int) -> None:
        nonlocal asked
        children = list(range(arity * parent + 1, min(arity * parent + arity + 1, size)))
        best = parent
        for start in range(0, len(children), num_child):
            places = [best, *children[start : start + num_child]]
            asked += 1
            winner = ask([heap[place] for place in places])
            best = next(place for place in places if heap[place] == winner)
        if best != parent:
            heap[parent], heap[best] = heap[best], heap[parent]
            sift(size, best)

    for parent in range(num_passages // arity, -1, -1):
        sift(num_passages, parent)
    found = []
    for size in range(num_passages - 1, num_passages - 1 - top_k, -1):
        found.append(heap[0])
        heap[0], heap[size] = heap[size], heap[0]
        if len(found) < top_k:
            sift(size, 0)
    return found, asked


def _padded(tokenizer: Any, prompts: Sequence[str], side: str, max_length: int) -> Any:
    return tokenizer(
        list(prompts),
        padding=True,
        padding_side=side,
        truncation=True,
        max_length=max_length,
        return_token_type_ids=False,
        return_tensors="pt",
    )
