"""Losses against those of sentence-transformers' cross-encoders, which pad and average by themselves."""

from __future__ import annotations

import math

import pytest
import torch
from comparing import KINDS, Batch, Peer, draw, our_losses, same

from tevatron_distill.losses import LOSSES, ranking_loss
from tevatron_distill.losses.listwise import LAMBDA_MU

losses = pytest.importorskip("sentence_transformers.cross_encoder.losses")
library = pytest.importorskip("sentence_transformers")

SIZES = ([2], [5], [20], [6, 6, 6], [7, 1, 2, 12])


class Scorer(library.CrossEncoder):
    """A cross-encoder without a model: the score of the passage that its number names."""

    num_labels = 1
    device = torch.device("cpu")

    def __init__(self, scores: list[list[float]]):
        torch.nn.Module.__init__(self)
        self.scores = torch.tensor([score for row in scores for score in row], requires_grad=True)

    def preprocess(self, pairs, prompt=None, task=None):
        return {"numbers": torch.tensor([int(passage) for _, passage in pairs])}

    def forward(self, features):
        return {"scores": self.scores[features["numbers"]]}


def answer(make, batch: Batch, **keywords):
    """Value and gradient of a loss over lists."""
    model = Scorer(batch.scores)
    numbers = iter(range(len(model.scores)))
    passages = [[str(next(numbers)) for _ in row] for row in batch.scores]
    queries = [f"q{n}" for n in range(len(passages))]
    value = make(model, **keywords)([queries, passages], [torch.tensor(row) for row in batch.labels])
    value.backward()
    return value.item(), [part.tolist() for part in model.scores.grad.split([len(row) for row in batch.scores])]


BITS = 1 / math.log(2)  # there a logarithm to the base 2 unless told otherwise
PEERS = {
    "RankNetLoss": (losses.RankNetLoss, {}, Peer("rank_net", "pairs", factor=BITS)),
    "RankNetLoss in nats": (losses.RankNetLoss, {"reduction_log": "natural"}, Peer("rank_net", "pairs")),
    "LambdaLoss without weights": (
        losses.LambdaLoss,
        {"weighting_scheme": losses.NoWeightingScheme()},
        Peer("rank_net", "pairs", factor=BITS),
    ),
    "LambdaLoss by NDCGLoss2": (
        losses.LambdaLoss,
        {"weighting_scheme": losses.NDCGLoss2Scheme()},
        Peer("ndcg_loss2", "pairs"),
    ),
    # a mean over pairs there, the published sum here
    "LambdaLoss by NDCGLoss2++": (losses.LambdaLoss, {}, Peer("lambda_loss", "sum/pairs")),
    "ListNetLoss": (losses.ListNetLoss, {}, Peer("list_net")),
    "ListMLELoss": (losses.ListMLELoss, {"respect_input_order": False}, Peer("list_mle", where="ranks")),
    "ADRMSELoss": (losses.ADRMSELoss, {}, Peer("adr_mse", "passages")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PEERS)
def test_value_and_gradient_are_those_of_the_library(name, kind):
    make, keywords, peer = PEERS[name]
    compared = 0
    for sizes in SIZES:
        for seed in range(3):
            batch = draw(kind, sizes, seed)
            if peer.understands(batch):
                assert same(answer(make, batch, **keywords), peer.expects(batch))
                compared += 1
    assert compared >= 9 or peer.where == "ranks"


def test_lambda_rank_is_what_lambda_loss_adds_to_ndcg_loss2():
    for kind in KINDS:
        batch = draw(kind, [7, 1, 2, 12], 0)
        both, mean = our_losses("lambda_loss", batch)[0], our_losses("ndcg_loss2", batch)[0]
        ordered = torch.tensor([ordered for ordered, _ in batch.pairs()])
        theirs, _ = answer(losses.LambdaLoss, batch, weighting_scheme=losses.LambdaRankScheme())
        assert (both - LAMBDA_MU * ordered * mean).sum().item() == pytest.approx(
            theirs * ordered.sum().item(), rel=1e-4, abs=1e-4
        )


def test_equal_scores_have_ranks_as_they_come_there_and_share_them_here():
    """So the order in which passages stand changes what NDCG-Loss2++ is there, and not here."""
    scores, labels = [1.0, 1.0, 0.0, 2.0], [1.0, 0.5, 1 / 3, 0.25]
    one, other = Batch([scores], [labels]), Batch([scores[::-1]], [labels[::-1]])
    assert our_losses("lambda_loss", one)[0].item() == pytest.approx(our_losses("lambda_loss", other)[0].item())
    assert answer(losses.LambdaLoss, one)[0] != pytest.approx(answer(losses.LambdaLoss, other)[0], rel=1e-3)


@pytest.mark.parametrize("kind", ["ranks", "tail"])
def test_single_passages_with_probabilities_and_scores(kind):
    """BinaryCrossEntropyLoss and MSELoss average over the passages of a batch."""
    for sizes in SIZES:
        batch = draw(kind, sizes, 1)
        labels = torch.tensor([label for row in batch.labels for label in row])
        for name, make in (("pointwise_bce", losses.BinaryCrossEntropyLoss), ("pointwise_mse", losses.MSELoss)):
            model = Scorer(batch.scores)
            value = make(model)([["q"] * len(labels), [str(n) for n in range(len(labels))]], labels)
            value.backward()
            gradient = [part.tolist() for part in model.scores.grad.split([len(row) for row in batch.scores])]
            average = Peer(name, "passages")
            assert same((value.item(), gradient), average.expects(batch))


def test_margins_of_one_passage_over_several_others():
    """MarginMSELoss compares one passage with each of the others; here these are the pairs that are compared."""
    batch = draw("ranks", [4, 4, 4], 2)
    model = Scorer(batch.scores)
    passages = [[str(4 * query + place) for query in range(3)] for place in range(4)]
    theirs = losses.MarginMSELoss(model)([["a", "b", "c"], *passages], [torch.tensor(row) for row in batch.labels])
    theirs.backward()
    scores, mask = torch.tensor(batch.scores, requires_grad=True), torch.ones(3, 4, dtype=torch.bool)
    with_first = torch.zeros(3, 4, 4, dtype=torch.bool)
    with_first[:, 0, 1:] = with_first[:, 1:, 0] = True
    ours = ranking_loss(LOSSES["margin_mse"], scores, torch.tensor(batch.labels), mask, with_first).mean()
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert scores.grad.flatten().tolist() == pytest.approx(model.scores.grad.tolist(), rel=1e-4, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_flag_embeddings_distillation_is_list_net_of_the_teachers_probabilities():
    abstract = pytest.importorskip("FlagEmbedding.abc.finetune.embedder.AbsModeling").AbsEmbedderModel
    batch = draw("ranks", [9, 9], 0)
    for loss in ("list_net", "kl"):
        scores = torch.tensor(batch.scores, requires_grad=True)
        teacher = torch.tensor(batch.labels).softmax(-1)
        theirs = abstract.distill_loss("kl_div", teacher, scores)
        theirs.backward()
        entropy = -(teacher * teacher.log()).sum(-1).mean().item()  # which a divergence leaves out
        value, gradient = Peer(loss, offset=entropy if loss == "kl" else 0.0).expects(batch)
        assert same((theirs.item(), scores.grad.tolist()), (value, gradient))
