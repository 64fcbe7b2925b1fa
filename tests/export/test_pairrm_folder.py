"""PairRM's folder: LLM-Blender's program and its class for transformers read it, and so do we."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import train_wordpiece
from exported_kinds import trained
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, DebertaV2Config, DebertaV2Model, DebertaV2PreTrainedModel

from tevatron_distill.export import export_student
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import InputError
from tevatron_distill.students import LoadOptions, load_student

SOURCES = ["hello!", "what is red?", "one two three"]
FIRST = ["hi!", "red is a colour", "the cat sat on the mat"]
SECOND = ["bye", "the dog", "four five"]
SOURCE_LENGTH, CANDIDATE_LENGTH = 40, 20


class PublishedPairRM(DebertaV2PreTrainedModel):
    """The model as PairRM-hf's card describes it: both heads' difference, read at the three markers."""

    def __init__(self, config):
        super().__init__(config)
        self.pretrained_model = DebertaV2Model(config)
        width = config.hidden_size
        self.head_layer = nn.Sequential(
            nn.Dropout(config.drop_out),
            nn.Linear(2 * width, width),
            nn.Tanh(),
            nn.Dropout(config.drop_out),
            nn.Linear(width, config.n_tasks),
        )
        self.post_init()

    def forward(self, input_ids, attention_mask):
        hidden = self.pretrained_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        config = self.config
        source, one, other = (
            hidden[torch.where(input_ids == marker)]
            for marker in (config.source_prefix_id, config.cand1_prefix_id, config.cand2_prefix_id)
        )
        left, right = (self.head_layer(torch.cat([source, side], dim=-1)) for side in (one, other))
        return (left - right).mean(dim=-1)


def tokenize_pairs(tokenizer, first, second):
    """As on the card."""
    length, rows = SOURCE_LENGTH + 2 * CANDIDATE_LENGTH, []
    for source, one, other in zip(SOURCES, first, second, strict=True):
        head = tokenizer.encode("<|source|>" + source, max_length=SOURCE_LENGTH, truncation=True)
        room = (length - len(head)) // 2
        tails = [
            tokenizer.encode(f"<|candidate{place}|>{text}", max_length=room, truncation=True)
            for place, text in ((1, one), (2, other))
        ]
        rows.append(head + tails[0] + tails[1])
    padded = tokenizer.pad({"input_ids": rows}, return_tensors="pt", padding="max_length", max_length=length)
    return {name: padded[name] for name in ("input_ids", "attention_mask")}


@pytest.fixture
def deberta(tmp_path):
    """A trained pair_ranker on DeBERTa-v2, with more embeddings than tokens, as PairRM's backbone has."""
    base = tmp_path / "base"
    tokenizer = train_wordpiece(base)
    torch.manual_seed(6)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = DebertaV2Config(
        vocab_size=len(tokenizer) + 11,
        **sizes,
        relative_attention=True,
        position_biased_input=False,
        pos_att_type=["p2c", "c2p"],
        type_vocab_size=0,
    )
    DebertaV2Model(config).save_pretrained(base)
    lengths = {"query_max_len": SOURCE_LENGTH, "passage_max_len": CANDIDATE_LENGTH, "rerank_max_len": 80}
    loaded = load_student(str(base), "pair_ranker", options=LoadOptions(training=True), settings=lengths)
    with torch.no_grad():
        for weight in loaded.model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    loaded.model.save_pretrained(tmp_path / "student")
    loaded.tokenizer.save_pretrained(tmp_path / "student")
    loaded.layout.settings.save(tmp_path / "student")
    return tmp_path / "student"


def test_the_cards_snippet_and_our_loader_read_the_folder(deberta, tmp_path):
    folder = tmp_path / "pairrm"
    differences = export_student(str(deberta), folder, "pairrm")
    assert differences.keys() == {"LLM-Blender's way", "tevatron_distill"}
    model, info = PublishedPairRM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        margins, turned = (
            model.eval()(**tokenize_pairs(tokenizer, *texts)).tolist() for texts in ((FIRST, SECOND), (SECOND, FIRST))
        )
    for path in (deberta, folder):
        reranker = Reranker.from_pretrained(str(path), device="cpu")
        for place, source in enumerate(SOURCES):
            scores = dict(reranker.rank(source, [FIRST[place], SECOND[place]]))
            expected = (margins[place] - turned[place]) / 2
            assert scores[0] == pytest.approx(expected, abs=1e-4)
            assert scores[1] == pytest.approx(-expected, abs=1e-4)


def test_llm_blender_finds_its_keys_and_as_many_rows_as_tokens(deberta, tmp_path):
    folder = tmp_path / "pairrm"
    export_student(str(deberta), folder)  # --format hub
    config = json.loads((folder / "config.json").read_text())
    assert config["ranker_type"] == "pairranker"
    assert config["model_type"].startswith("deberta")
    assert "model_name" not in config  # LLM-Blender then takes the folder itself
    assert (config["source_maxlength"], config["candidate_maxlength"]) == (SOURCE_LENGTH, CANDIDATE_LENGTH)
    assert config["architectures"] == ["DebertaV2PairRM"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    keys = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id", "cand_prefix_id")
    markers = ["<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>"]
    assert [config[key] for key in keys] == tokenizer.convert_tokens_to_ids(markers)
    state = load_file(folder / "model.safetensors")
    assert len(state["pretrained_model.embeddings.word_embeddings.weight"]) == len(tokenizer)
    assert {name.partition(".")[0] for name in state} == {"pretrained_model", "head_layer"}


def test_an_exported_pairrm_is_exported_again(make_folder, tmp_path_factory, tmp_path):
    student = trained("pairs", make_folder, tmp_path_factory)
    export_student(str(student), tmp_path / "once", "pairrm")
    assert max(export_student(str(tmp_path / "once"), tmp_path / "twice", "pairrm").values()) < 1e-5
    assert "pretrained_model.pooler.dense.weight" in load_file(tmp_path / "once" / "model.safetensors")


def test_a_language_model_that_compares_pairs_is_no_pairrm(make_folder, tmp_path_factory, tmp_path):
    student = trained("pairs, llama", make_folder, tmp_path_factory)
    with pytest.raises(InputError, match="is an encoder that compares pairs; got pair_ranker"):
        export_student(str(student), tmp_path / "pairrm", "pairrm")
