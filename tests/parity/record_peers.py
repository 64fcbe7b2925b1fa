"""What other programs answer, written to ``recorded/``, where the tests read it: their packages need not be installed.

    pip install --no-deps --target PEERS allRank==1.4.3 lightning-ir==0.0.6 llm-blender==0.0.2 llm-rankers==0.0.2 \
        permsc==0.0.6 pulp==3.3.2 numba==0.68.1 llvmlite==0.50.0
    python tests/parity/record_peers.py PEERS

Their code runs as it is published, but for what their packages import on the way (which they do not need here).
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

RECORDED = Path(__file__).parent / "recorded"
PAD = -1  # allRank's label of a place without a passage
BARE = ("allrank", "allrank.data", "allrank.models", "lightning_ir", "llm_blender", "llm_blender.gpt_eval")
BARE = (*BARE, "llm_blender.pair_ranker", "llmrankers", "permsc")
"""Packages whose own beginning, which imports much else, is not run."""
STAND_INS = {
    "allrank.data.dataset_loading": {"PADDED_Y_VALUE": PAD},
    "allrank.models.model_utils": {"get_torch_device": None},
}
"""Modules that would import further packages, and what of them is needed here."""


def module(name: str) -> Any:
    """A module of a peer."""
    for package in BARE:
        if package not in sys.modules:
            bare = types.ModuleType(package)
            bare.__path__ = [str(Path(PEERS, *package.split(".")))]
            sys.modules[package] = bare
    for stood_for, needed in STAND_INS.items():
        sys.modules.setdefault(stood_for, types.ModuleType(stood_for)).__dict__.update(needed)
    return importlib.import_module(name)


# ---- losses


def batches() -> list[dict[str, Any]]:
    """Scores and labels of several queries: sizes from 1 to 20, ranks, grades with ties, and tails without a rank."""
    source = random.Random(7)

    def labels(kind: str, size: int) -> list[float]:
        ranks = source.sample(range(1, size + 1), size)
        if kind == "ranks":
            return [round(1 / rank, 6) for rank in ranks]
        if kind == "grades":
            return [float(source.randint(0, 3)) for _ in ranks]
        return [round(1 / rank, 6) if rank <= 3 else round(1 / size, 6) for rank in ranks]

    made = []
    for kind in ("ranks", "grades", "tail"):
        for sizes in ([2], [5], [20], [6, 6, 6], [5, 1, 3, 8]):
            made.append(
                {
                    "kind": kind,
                    "scores": [[round(source.gauss(0, 1.5), 3) for _ in range(size)] for size in sizes],
                    "labels": [labels(kind, size) for size in sizes],
                }
            )
    return made


def padded(rows: list[list[float]], filler: float) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def answer(loss: Callable[[Tensor, Tensor], Tensor], batch: dict[str, Any], ragged: bool) -> dict[str, Any] | None:
    """Value and gradient of a loss over a batch; None where it wants lists of one length."""
    sizes = [len(row) for row in batch["scores"]]
    if len(set(sizes)) > 1 and not ragged:
        return None
    scores = padded(batch["scores"], 0.0).requires_grad_()
    value = loss(scores, padded(batch["labels"], PAD))
    value.sum().backward()
    if not (torch.isfinite(value).all() and torch.isfinite(scores.grad).all()):
        return None  # a mean over no pairs
    gradient = [[round(float(x), 8) for x in row[:size]] for row, size in zip(scores.grad, sizes, strict=True)]
    return {"value": round(float(value), 8), "gradient": gradient}


def allrank_losses() -> dict[str, tuple[Callable[[Tensor, Tensor], Tensor], bool]]:
    all_of = module("allrank.models.losses").__dict__

    def weighed(scheme: str | None, reduction: str) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda s, y: all_of["lambdaLoss"](s, y, weighing_scheme=scheme, reduction=reduction)

    return {
        "allRank rankNet": (all_of["rankNet"], True),
        "allRank listNet": (all_of["listNet"], True),
        "allRank listMLE": (all_of["listMLE"], True),
        "allRank approxNDCG": (lambda s, y: all_of["approxNDCGLoss"](s, y, alpha=10.0), True),
        "allRank pointwise_rmse": (lambda s, y: all_of["pointwise_rmse"](s, y, no_of_levels=1), True),
        "allRank lambdaLoss ndcgLoss2PP": (weighed("ndcgLoss2PP_scheme", "sum"), True),
        "allRank lambdaLoss ndcgLoss2": (weighed("ndcgLoss2_scheme", "mean"), True),
        "allRank lambdaLoss lambdaRank": (weighed("lambdaRank_scheme", "sum"), True),
        "allRank lambdaLoss rankNet": (weighed("rankNet_scheme", "mean"), True),
    }


def lightning_losses() -> dict[str, tuple[Callable[[Tensor, Tensor], Tensor], bool]]:
    approximate = module("lightning_ir.loss.approximate")
    listwise, pairwise = module("lightning_ir.loss.listwise"), module("lightning_ir.loss.pairwise")

    def of(loss: Any) -> tuple[Callable[[Tensor, Tensor], Tensor], bool]:
        def call(scores: Tensor, labels: Tensor) -> Tensor:
            return loss.compute_loss(types.SimpleNamespace(scores=scores), types.SimpleNamespace(targets=labels))

        return call, False

    return {
        "Lightning IR RankNet": of(pairwise.RankNet()),
        "Lightning IR SupervisedMarginMSE": of(pairwise.SupervisedMarginMSE()),
        "Lightning IR KLDivergence": of(listwise.KLDivergence()),
        "Lightning IR InfoNCE": of(listwise.InfoNCE()),
        "Lightning IR ApproxNDCG": of(approximate.ApproxNDCG(temperature=0.1)),
        "Lightning IR ApproxRankMSE": of(approximate.ApproxRankMSE(discount="log2")),
    }


def blender_losses() -> dict[str, tuple[Callable[[Tensor, Tensor], Tensor], bool]]:
    loss, ranker = module("llm_blender.pair_ranker.loss"), module("llm_blender.pair_ranker.ranker")

    def over_all_pairs(loss_type: str) -> tuple[Callable[[Tensor, Tensor], Tensor], bool]:
        """Each passage's score stands for what it got beside any other."""
        itself = types.SimpleNamespace(loss_type=loss_type)

        def call(scores: Tensor, labels: Tensor) -> Tensor:
            if loss_type == "open_instruct_BCE":
                labels = (labels > 0.5).float()
            left, right = torch.combinations(torch.arange(scores.shape[1])).T
            sides = [rows[:, side].reshape(-1, 1) for rows in (scores, labels) for side in (left, right)]
            return ranker.CrossCompareReranker.compute_loss(itself, *sides)

        return call, False

    def simcls(scores: Tensor, labels: Tensor) -> Tensor:
        above_all = scores.detach().amax(dim=1) + 1  # a gold text that costs nothing
        return loss.simcls_loss(scores, above_all, labels)

    return {
        "LLM-Blender ListNet": (loss.ListNet_loss, False),
        "LLM-Blender ListMLE": (loss.ListMLE_loss, False),
        "LLM-Blender SimCLS": (simcls, False),
        "LLM-Blender instructgpt": over_all_pairs("instructgpt"),
        "LLM-Blender BCE": over_all_pairs("BCE"),
        "LLM-Blender MSE": over_all_pairs("MSE"),
        "LLM-Blender open_instruct_BCE": over_all_pairs("open_instruct_BCE"),
    }


def losses() -> dict[str, Any]:
    torch.manual_seed(0)  # allRank breaks ties at random
    made = batches()
    for batch in made:
        found = {
            name: answer(loss, batch, ragged)
            for name, (loss, ragged) in (allrank_losses() | lightning_losses() | blender_losses()).items()
        }
        batch["answers"] = {name: one for name, one in found.items() if one is not None}
    return {"batches": made}


# ---- LLM-Blender: a matrix of comparisons


def comparisons() -> dict[str, Any]:
    """Matrices ``M[i][j]`` = logit of i before j, and what `rank` and a bubble make of them."""
    utils = module("llm_blender.gpt_eval.utils")
    source = np.random.default_rng(3)
    made = []
    for size in (1, 2, 3, 5, 11):
        matrix = source.normal(size=(size, size)).round(3)
        np.fill_diagonal(matrix, 0)
        made.append(
            {
                "matrix": matrix.tolist(),
                "max_logits": utils.get_scores_from_cmps(matrix[None])[0].astype(float).round(6).tolist(),
                "ranks": utils.get_ranks_from_cmps(matrix[None])[0].tolist(),
                "max_wins": utils.get_ranks_from_cmps(matrix[None], "max_wins")[0].tolist(),
                "best": bubble(matrix, "best"),
                "worst": bubble(matrix, "worst"),
            }
        )
    return {"matrices": made}


def bubble(matrix: Any, best_or_worst: str) -> int:
    """The candidate that LLM-Blender's bubble ends with, from the first-stage order's back."""
    ranker = module("llm_blender.pair_ranker.ranker")
    size = len(matrix)
    if size == 1:
        return 0
    table = torch.tensor(matrix)

    def forward(source: Any, source_mask: Any, left: Tensor, left_mask: Any, right: Tensor, *rest: Any) -> Any:
        return {"loss": 0.0, "logits": table[left[:, 0], right[:, 0]]}

    marks = types.SimpleNamespace(cand1_prefix_id=0, cand2_prefix_id=0)
    itself = types.SimpleNamespace(_forward=forward, tokenizer=marks)
    ids = torch.arange(size).view(1, size, 1)
    permute, torch.randperm = torch.randperm, lambda count: torch.arange(count).flip(0)
    try:
        found = ranker.CrossCompareReranker._bubble_predict(
            itself, torch.zeros(1, 1), None, ids, ids, best_or_worst=best_or_worst
        )
    finally:
        torch.randperm = permute
    return int(found["select_process"][0, 2, -1])


# ---- llm-rankers: sorts


def worths(seed: int, size: int) -> list[int]:
    return random.Random(seed).sample(range(size), size)


def by_worth(seed: int, size: int) -> Callable[[tuple[int, ...]], int]:
    """Names the worthiest of a set."""
    worth = worths(seed, size)
    return lambda shown: max(shown, key=lambda position: worth[position])


def by_chance(seed: int, size: int) -> Callable[[tuple[int, ...]], int]:
    """Names one of a set by chance that depends on the set alone, and so contradicts itself."""
    return lambda shown: random.Random(f"{seed} {sorted(shown)}").choice(sorted(shown))


def sorts() -> dict[str, Any]:
    """What was asked, who was named best, and the order in the end."""
    rankers = module("llmrankers.rankers")
    made: list[dict[str, Any] | None] = []
    for size, top_k in ((3, 10), (7, 3), (30, 10), (100, 10)):
        for best in (by_worth(1, size), by_chance(2, size)):
            made.append(pairwise(rankers, size, top_k, best))
            made += [setwise(rankers, "heapsort", num_child, size, top_k, best) for num_child in (2, 3, 9, 19)]
        for num_child in (2, 3):
            if found := setwise(rankers, "bubblesort", num_child, size, top_k, by_worth(1, size)):
                made.append({**found, "worths": worths(1, size)})
    return {"sorts": made}


def documents(rankers: Any, size: int) -> list[Any]:
    return [rankers.SearchResult(docid=str(n), score=-n, text=str(n)) for n in range(size)]


def setwise(rankers: Any, method: str, num_child: int, size: int, top_k: int, best: Any) -> dict[str, Any] | None:
    ranker_class = module("llmrankers.setwise").SetwiseLlmRanker
    ranker = ranker_class.__new__(ranker_class)
    ranker.num_child, ranker.k, ranker.method = num_child, top_k, method
    asked: list[tuple[list[int], int]] = []

    def compare(query: str, shown: list[Any]) -> str:
        positions = tuple(int(one.docid) for one in shown)
        if len(positions) < 2:
            raise LookupError("an empty question")
        asked.append((list(positions), best(positions)))
        return str(ranker.CHARACTERS[positions.index(asked[-1][1])])

    ranker.compare = compare
    try:
        found = ranker.rerank("q", documents(rankers, size))
    except LookupError:
        return None  # its bubblesort asks empty questions
    order = [int(one.docid) for one in found]
    return {"sort": method, "num_child": num_child, "size": size, "top_k": top_k, "asked": asked, "order": order}


def pairwise(rankers: Any, size: int, top_k: int, best: Any) -> dict[str, Any]:
    ranker_class = module("llmrankers.pairwise").PairwiseLlmRanker
    ranker = ranker_class.__new__(ranker_class)
    ranker.k, ranker.method = top_k, "heapsort"
    asked: list[tuple[list[int], int]] = []

    def compare(query: str, shown: list[str]) -> list[str]:
        positions = tuple(map(int, shown))
        asked.append((list(positions), best(positions)))
        return ["Passage A", "Passage B"] if asked[-1][1] == positions[0] else ["Passage B", "Passage A"]

    ranker.compare = compare
    order = [int(one.docid) for one in ranker.rerank("q", documents(rankers, size))]
    return {"sort": "pairwise heapsort", "num_child": 1, "size": size, "top_k": top_k, "asked": asked, "order": order}


# ---- permutation self-consistency: orders become one


def orders() -> dict[str, Any]:
    approximate, exact = module("permsc.aggregator.approximate"), module("permsc.aggregator.exact")
    source = np.random.default_rng(5)
    made = []
    for size, count, noise in ((4, 3, 2), (8, 5, 3), (8, 20, 6), (12, 7, 4), (20, 5, 8)):
        noisy = [np.argsort(np.arange(size) + source.uniform(0, noise, size)) for _ in range(count)]
        given = np.array(noisy)
        one = {
            "orders": given.tolist(),
            "borda": approximate.BordaRankAggregator().aggregate(given).tolist(),
            "rrf": approximate.RRFRankAggregator(k=60).aggregate(given).tolist(),
        }
        if size <= 8:
            one["kemeny"] = exact.KemenyOptimalAggregator().aggregate(given, verbose=False).tolist()
        made.append(one)
    return {"fusions": made}


def compact(value: Any) -> str:
    """JSON, one line for each entry of the only list at the top."""
    [(name, entries)] = value.items()
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
    return f'{{"{name}": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    PEERS = sys.argv[1]
    sys.path.append(PEERS)
    for name, make in (("losses", losses), ("comparisons", comparisons), ("sorts", sorts), ("orders", orders)):
        (RECORDED / f"{name}.json").write_text(compact(make()), encoding="utf-8")
