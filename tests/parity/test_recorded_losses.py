"""Losses against what allRank, Lightning IR and LLM-Blender computed of the same numbers, with their gradients."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from comparing import Batch, Peer, our_losses, same

from tevatron_distill.losses.listwise import LAMBDA_MU

RECORDED = json.loads((Path(__file__).parent / "recorded" / "losses.json").read_text(encoding="utf-8"))["batches"]

PEERS = {
    "allRank rankNet": Peer("rank_net", "pairs"),
    "allRank listNet": Peer("list_net"),
    # ties of labels are broken at random there, and do not compete here
    "allRank listMLE": Peer("list_mle", where="ranks"),
    # minus nDCG there, 1 - nDCG here, which is 0 where no order is better than another
    "allRank approxNDCG": Peer("approx_ndcg", offset=-1, where="ordered"),
    "allRank pointwise_rmse": Peer("pointwise_rmse"),
    "allRank lambdaLoss ndcgLoss2PP": Peer("lambda_loss", "sum"),
    "allRank lambdaLoss ndcgLoss2": Peer("ndcg_loss2", "pairs"),
    "allRank lambdaLoss rankNet": Peer("rank_net", "pairs", factor=1 / math.log(2)),  # bits there, nats here
    "Lightning IR RankNet": Peer("rank_net", "pairs"),
    # a tied pair has no margin there, and the margin 0 here
    "Lightning IR SupervisedMarginMSE": Peer("margin_mse", "pairs", where="ranks"),
    "Lightning IR KLDivergence": Peer("kl"),
    "Lightning IR InfoNCE": Peer("softmax_ce", where="one best"),
    "Lightning IR ApproxNDCG": Peer("approx_ndcg", where="ordered"),
    # equal labels have ranks as they come there, and share the mean of their ranks here
    "Lightning IR ApproxRankMSE": Peer("adr_mse", "passages", where="ranks"),
    "LLM-Blender ListNet": Peer("list_net"),
    "LLM-Blender ListMLE": Peer("list_mle", where="ranks"),
    "LLM-Blender SimCLS": Peer("margin_rank", where="ranks"),  # ties have margins by their places there
    # a tie costs the logarithm of 2 there, without a gradient
    "LLM-Blender instructgpt": Peer("rank_net", "tied pairs", tie_cost=math.log(2)),
    "LLM-Blender BCE": Peer("pair_bce", where="ranks"),  # both passages of a tie are wrong there
    "LLM-Blender MSE": Peer("pair_mse"),
    "LLM-Blender open_instruct_BCE": Peer("open_instruct_bce"),
}


def batch_of(recorded, name):
    labels = recorded["labels"]
    if name == "LLM-Blender open_instruct_BCE":  # which was given 0 and 1
        labels = [[float(label > 0.5) for label in row] for row in labels]
    return Batch(recorded["scores"], labels)


@pytest.mark.parametrize("name", PEERS)
def test_value_and_gradient_are_the_recorded_ones(name):
    compared = 0
    for recorded in RECORDED:
        batch = batch_of(recorded, name)
        if name in recorded["answers"] and PEERS[name].understands(batch):
            answer = recorded["answers"][name]
            expected = PEERS[name].expects(batch)
            assert same((answer["value"], answer["gradient"]), expected), (batch, answer, expected)
            compared += 1
    assert compared >= 4


def test_lambda_rank_is_what_lambda_loss_adds_to_ndcg_loss2():
    """allRank offers LambdaRank's weights alone; here they are the difference of two losses."""
    for recorded in RECORDED:
        batch = Batch(recorded["scores"], recorded["labels"])
        both, _ = our_losses("lambda_loss", batch)
        means, _ = our_losses("ndcg_loss2", batch)
        rest = sum(
            (whole - LAMBDA_MU * ordered * mean).item()
            for whole, mean, (ordered, _) in zip(both, means, batch.pairs(), strict=True)
        )
        assert rest == pytest.approx(recorded["answers"]["allRank lambdaLoss lambdaRank"]["value"], rel=1e-4, abs=1e-4)


def test_every_recorded_loss_is_compared():
    assert {name for recorded in RECORDED for name in recorded["answers"]} == {
        *PEERS,
        "allRank lambdaLoss lambdaRank",
    }


def test_equal_labels_cost_less_than_in_whatever_order_they_are_broken():
    """allRank draws tied passages against each other in an order of its own; here they do not compete."""
    compared = 0
    for recorded in RECORDED:
        batch = Batch(recorded["scores"], recorded["labels"])
        if recorded["kind"] == "tail" and any(tied for _, tied in batch.pairs()):
            ours, _ = our_losses("list_mle", batch)
            assert ours.mean().item() < recorded["answers"]["allRank listMLE"]["value"]
            compared += 1
    assert compared >= 3
