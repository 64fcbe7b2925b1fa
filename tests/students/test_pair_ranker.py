"""PairRanker: its rows, its head on every kind of backbone, and the folders that others have published."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SENTENCES, build_bert, build_causal, build_t5, train_byte_level, train_wordpiece
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tevatron_distill.layouts import RerankerSettings
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadOptions, LoraOptions, load_student, pair_model
from tevatron_distill.students.loading import Source
from tevatron_distill.students.pair_checkpoint import read_llm_blender
from tevatron_distill.students.pair_model import MARKERS
from tevatron_distill.students.pair_ranker import fit_lengths

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 256,
}


def build_backbone(folder: Path, architecture: str) -> Path:
    """A tiny backbone of an architecture, with a tokenizer that has its special tokens."""
    from transformers import AutoModel, BartConfig, DebertaV2Config, OPTConfig, PhiConfig, RobertaConfig

    if architecture == "deberta":
        tokenizer = train_wordpiece(folder)
    else:
        tokenizer = train_byte_level(folder, pad="<pad>")
        if architecture in ("roberta", "bart"):
            tokenizer.cls_token, tokenizer.sep_token = "<s>", "</s>"
            tokenizer.save_pretrained(folder)
    names = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    torch.manual_seed(4)
    config = {
        "deberta": lambda: DebertaV2Config(
            **SMALL,
            vocab_size=len(tokenizer),
            pad_token_id=0,
            type_vocab_size=0,
            position_biased_input=False,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            share_att_key=True,
            norm_rel_ebd="layer_norm",
            position_buckets=16,
        ),
        "roberta": lambda: RobertaConfig(**SMALL, **names, type_vocab_size=1),
        "opt": lambda: OPTConfig(**names, **SMALL, ffn_dim=32, word_embed_proj_dim=8),
        "phi": lambda: PhiConfig(**SMALL, **names),
        "bart": lambda: BartConfig(
            **names,
            d_model=16,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=256,
            decoder_start_token_id=tokenizer.eos_token_id,
        ),
    }[architecture]()
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


BACKBONES = {
    "bert": (build_bert, ()),
    "roberta": (build_backbone, ("roberta",)),
    "deberta": (build_backbone, ("deberta",)),
    "llama": (build_causal, ("llama",)),
    "phi": (build_backbone, ("phi",)),
    "opt": (build_backbone, ("opt",)),
    "t5": (build_t5, ()),
    "bart": (build_backbone, ("bart",)),
}


@pytest.fixture
def make(make_folder):
    def load(backbone: str = "bert", path=None, training=True, lora=None, dtype="float32", **settings):
        build, arguments = BACKBONES[backbone]
        folder = path or make_folder(build, *arguments)  # the first call builds it, and draws numbers
        torch.manual_seed(3)
        student = load_student(
            str(folder),
            "pair_ranker",
            options=LoadOptions(training=training, lora=lora, dtype=dtype),
            settings=settings,
        )
        student.model.eval()
        return student

    return load


def logits_of(student, query: str, *texts: str) -> torch.Tensor:
    """What both got, ``[2]``, of two texts shown in this order."""
    one = Candidates("q", query, tuple(Passage(str(n), text) for n, text in enumerate(texts)), ())
    batch = student.layout.pad(list(student.layout.rows(one, [(0, 1)])))
    with torch.no_grad():
        outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs})
    return student.layout.row_scores(outputs)[0]


def tokens_of(student, query: str, *texts: str) -> tuple[list[str], tuple[int, ...]]:
    one = Candidates("q", query, tuple(Passage(str(n), text) for n, text in enumerate(texts)), ())
    [row] = student.layout.rows(one, [(0, 1)])
    return student.tokenizer.convert_ids_to_tokens(row.decoder_input_ids or row.input_ids), row.places


def test_an_encoder_reads_its_markers(make):
    tokens, places = tokens_of(make(), "one two", "red", "green blue")
    assert " ".join(tokens) == (
        "[CLS] <|source|> one two [SEP] [CLS] <|candidate1|> red [SEP] [CLS] <|candidate2|> green blue [SEP]"
    )
    assert [tokens[place] for place in places] == list(MARKERS)


def test_a_causal_model_reads_the_ends_and_the_source_behind_both_candidates(make):
    tokens, places = tokens_of(make("llama"), " the cat", " Yes", " No")
    assert " ".join(tokens) == (
        "<s> <|source|> Ġthe Ġcat </s> <|candidate1|> ĠYes </s> <|candidate2|> ĠNo </s> <|source|>"
    )
    assert places == (11, 7, 10)


def test_an_encoder_decoder_reads_the_source_apart_and_the_candidates_in_its_decoder(make):
    student = make("t5")
    tokens, places = tokens_of(student, "the cat", "Yes", "No")
    assert " ".join(tokens) == "<pad> <|candidate1|> ▁Yes </s> <|candidate2|> ▁No </s> <|source|>"
    assert places == (7, 3, 6)
    batch = student.layout.collate([Candidates("q", "the cat", (Passage("a", "Yes"), Passage("b", "No")), ())])
    words = student.tokenizer.convert_ids_to_tokens(batch["input_ids"][0, :4])
    assert words == ["<|source|>", "▁the", "▁cat", "</s>"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_margin_of_a_pair_sees_the_source_and_both_candidates(make, backbone):
    student = make(backbone)
    with torch.no_grad():  # as large as trained ones
        for weight in student.model.parameters():
            weight.copy_(0.3 * torch.randn_like(weight))
    start = logits_of(student, "the cat", "red green", "blue yellow")
    other = {
        "source": logits_of(student, "the dog", "red green", "blue yellow"),
        "first": logits_of(student, "the cat", "seven green", "blue yellow"),
        "second": logits_of(student, "the cat", "red green", "blue seven"),
    }
    for name, logits in other.items():
        assert (logits - start).abs().min() > 1e-6, f"a logit cannot see the {name}"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_saves_and_loads_and_gives_each_weight_a_gradient(make, backbone, tmp_path):
    student = make(backbone)
    for part in (student.model, student.tokenizer):
        part.save_pretrained(tmp_path)
    student.layout.settings.save(tmp_path)
    expected = logits_of(student, "the cat", "red", "green")
    again = load_student(str(tmp_path))
    again.model.eval()
    assert torch.equal(logits_of(again, "the cat", "red", "green"), expected)
    assert again.model.config.architectures == [type(student.model).__name__]
    batch = again.layout.collate([Candidates("q", "the cat", (Passage("a", "red"), Passage("b", "green")), ())])
    outputs = again.model(**{name: batch[name] for name in again.layout.model_inputs})
    (outputs["logits"][:, 0] - 2 * outputs["logits"][:, 1]).sum().backward()
    still = [name for name, weight in again.model.named_parameters() if weight.grad is None]
    assert still == []


def test_markers_and_special_tokens_that_a_user_types_are_left_out(make):
    student = make()
    clean = logits_of(student, "one two", "red", "green")
    typed = logits_of(
        student, "one <|source|> two [SEP]", "<|candidate1|> red <|candidate2|>", "[CLS] green <|candidate2|> [PAD]"
    )
    assert torch.equal(typed, clean)
    tokens, _ = tokens_of(student, "<|candidate|> one", "<|CANDIDATE1|>", "red")
    assert [tokens.count(marker) for marker in MARKERS] == [1, 1, 1]


def test_what_the_source_leaves_is_shared_by_the_candidates_of_its_own_row(make):
    student = make(query_max_len=20, passage_max_len=10, rerank_max_len=40)
    long = "red " * 50

    def sizes(query: str) -> list[int]:
        tokens, places = tokens_of(student, query, long, long)
        return [places[1] - places[0], places[2] - places[1], len(tokens) - places[2] + 1]

    assert sizes(long) == [20, 10, 10]
    assert sizes("red " * 7) == [3 + 7, 10 + (20 - 10) // 2, 10 + (20 - 10) // 2]
    short = Candidates("a", "red", (Passage("a", long), Passage("b", "blue " * 50)), ())
    wide = Candidates("b", long, short.passages, ())
    alone = student.layout.collate([short])["input_ids"]
    together = student.layout.collate([short, wide])["input_ids"]
    assert torch.equal(alone, together[:2, : alone.shape[1]])


def test_lengths_follow_pairrms_proportions_and_must_fit():
    def fit(positions=None, **lengths):
        filled = fit_lengths(RerankerSettings(student="pair_ranker", **lengths), positions)
        return filled.query_max_len, filled.passage_max_len, filled.rerank_max_len

    assert fit(rerank_max_len=2048) == (1224, 412, 2048)
    assert fit(512, rerank_max_len=2048) == (512 - 2 * 103, 512 * 412 // 2048, 512)
    assert fit(rerank_max_len=2048, query_max_len=128, passage_max_len=100) == (128, 100, 2048)
    assert fit(rerank_max_len=300, query_max_len=100) == (100, 100, 300)
    assert fit(rerank_max_len=300, passage_max_len=50) == (200, 50, 300)
    for wrong in ({"query_max_len": 300, "passage_max_len": 200}, {"passage_max_len": 255}, {"query_max_len": 510}):
        with pytest.raises(InputError, match="must fit into rerank_max_len"):
            fit(rerank_max_len=512, **wrong)


def test_robertas_positions_start_behind_its_pad_id(make):
    student = make("roberta")
    pad = student.tokenizer.pad_token_id
    assert student.layout.settings.rerank_max_len == 256 - pad - 1
    long = "red " * 300
    assert logits_of(student, long, long, "blue " * 300).isfinite().all()
    assert make("deberta").layout.settings.rerank_max_len == 2048  # relative positions have no end


def pair_rm_folder(folder: Path, tokenizer=None) -> Path:
    """A folder of the shape of llm-blender/PairRM-hf: names of its weights, keys of its config, its added tokens."""
    from transformers import DebertaV2Config, DebertaV2Model

    tokenizer = tokenizer or train_wordpiece(folder)
    tokenizer.add_tokens([*MARKERS, "<|candidate|>"])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(6)
    config = DebertaV2Config(
        **SMALL,
        vocab_size=len(tokenizer),
        pad_token_id=0,
        type_vocab_size=0,
        position_biased_input=False,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_buckets=16,
    )
    backbone = DebertaV2Model(config)
    head = {
        "head_layer.1.weight": torch.randn(16, 32),
        "head_layer.1.bias": torch.randn(16),
        "head_layer.4.weight": torch.randn(1, 16),
        "head_layer.4.bias": torch.randn(1),
    }
    state = {f"pretrained_model.{name}": value for name, value in backbone.state_dict().items()} | head
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    names = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id", "cand_prefix_id")
    extra = dict(zip(names, range(len(tokenizer) - 4, len(tokenizer)), strict=True))
    extra |= {"n_tasks": 1, "drop_out": 0.05, "sep_token_id": 3, "architectures": ["DebertaV2PairRM"]}
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), **extra}))
    return folder


def published_scores(folder: Path, source: str, first: str, second: str, room: int) -> tuple[float, float]:
    """PairRM in plain words: three segments, hidden states at the markers, one head on both pairs."""
    from transformers import DebertaV2Config, DebertaV2Model

    tokenizer = AutoTokenizer.from_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    model = DebertaV2Model(DebertaV2Config.from_pretrained(folder)).eval()
    prefix = "pretrained_model."
    model.load_state_dict({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})
    ids: list[int] = []
    marks = []
    for marker, text in zip(MARKERS, (source, first, second), strict=True):
        segment = tokenizer.encode(marker + text)
        if marker != MARKERS[0]:
            segment = [*segment[: room - 1], segment[-1]] if len(segment) > room else segment
        marks.append(len(ids) + segment.index(tokenizer.convert_tokens_to_ids(marker)))
        ids += segment
    with torch.no_grad():
        hidden = model(torch.tensor([ids])).last_hidden_state[0]

    def head(place: int) -> float:
        joined = torch.cat([hidden[marks[0]], hidden[place]])
        inner = torch.tanh(state["head_layer.1.weight"] @ joined + state["head_layer.1.bias"])
        return (state["head_layer.4.weight"] @ inner + state["head_layer.4.bias"]).item()

    return head(marks[1]), head(marks[2])


def test_a_folder_like_pairrm_hf_scores_as_a_plain_implementation(tmp_path):
    folder = pair_rm_folder(tmp_path)
    student = load_student(str(folder))  # nobody needs to say what it is
    student.model.eval()
    settings = student.layout.settings
    assert (settings.query_max_len, settings.passage_max_len, settings.rerank_max_len) == (1224, 412, 2048)
    texts = ("what is a reranker?", "a reranker orders passages", "the cat sat on the mat")
    assert logits_of(student, *texts).tolist() == pytest.approx(published_scores(folder, *texts, room=2048), abs=1e-5)
    student = load_student(str(folder), "pair_ranker", settings={"rerank_max_len": 64})
    student.model.eval()
    source = SENTENCES[0]
    length = 2 + 1 + len(student.tokenizer(source, add_special_tokens=False)["input_ids"])
    expected = published_scores(folder, source, "red " * 90, "blue " * 90, room=(64 - length) // 2)
    assert logits_of(student, source, "red " * 90, "blue " * 90).tolist() == pytest.approx(expected, abs=1e-5)


def test_pairrm_is_trained_on_and_loads_back(tmp_path):
    (tmp_path / "published").mkdir()
    folder = pair_rm_folder(tmp_path / "published")
    student = load_student(str(folder), "pair_ranker", options=LoadOptions(training=True))
    student.model.eval()
    expected = logits_of(student, "one", "red", "blue")
    for part in (student.model, student.tokenizer):
        part.save_pretrained(tmp_path / "own")
    student.layout.settings.save(tmp_path / "own")
    again = load_student(str(tmp_path / "own"))
    again.model.eval()
    assert torch.equal(logits_of(again, "one", "red", "blue"), expected)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_a_checkpoint_of_llm_blenders_program_scores_the_same(tmp_path, file):
    backbone, checkpoint, folder = (tmp_path / name for name in ("backbone", "checkpoint", "hf"))
    for path in (backbone, checkpoint, folder):
        path.mkdir()
    build_backbone(backbone, "deberta")
    pair_rm_folder(folder, AutoTokenizer.from_pretrained(backbone))
    flags = {
        "ranker_type": "pairranker",
        "model_type": "deberta",
        "model_name": str(backbone),
        "source_maxlength": 128,
        "candidate_maxlength": 96,
        "n_tasks": 1,
        "drop_out": 0.05,
    }
    (checkpoint / "config.json").write_text(json.dumps(flags))
    state = load_file(folder / "model.safetensors")
    if file.endswith("bin"):
        torch.save(state, checkpoint / file)
    else:
        save_file(state, checkpoint / file)
    student = load_student(str(checkpoint))
    student.model.eval()
    settings = student.layout.settings
    assert (settings.query_max_len, settings.passage_max_len, settings.rerank_max_len) == (128, 96, 128 + 2 * 96)
    texts = ("what is a reranker?", "a reranker orders passages", "the cat sat on the mat")
    assert logits_of(student, *texts).tolist() == pytest.approx(published_scores(folder, *texts, room=999), abs=1e-5)
    del state["head_layer.1.bias"]
    save_file(state, checkpoint / "model.safetensors")
    (checkpoint / "pytorch_model.bin").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"would be random: head_layer\.1\.bias"):
        load_student(str(checkpoint), "pair_ranker")


def test_another_ranker_of_llm_blender_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"ranker_type": "summareranker"}))
    with pytest.raises(InputError, match="reads LLM-Blender's pairranker; got summareranker"):
        read_llm_blender(Source(str(tmp_path), None), LoadOptions())


def test_a_plain_backbone_is_refused_at_inference(bert_folder):
    with pytest.raises(InputError, match=r"would be random: head_layer\.1\.bias.*must be trained first"):
        load_student(str(bert_folder), "pair_ranker")


def test_a_tokenizer_with_other_markers_is_refused(tmp_path):
    folder = pair_rm_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "source_prefix_id": 7}))
    with pytest.raises(InputError, match="must agree on the markers' ids"):
        load_student(str(folder), "pair_ranker")


def test_new_markers_depend_on_the_folder_alone(make):
    torch.manual_seed(11)
    one = make("llama")
    torch.manual_seed(12)
    two = make("llama", lora=LoraOptions(r=2)).model.get_base_model()
    ids = one.tokenizer.convert_tokens_to_ids(list(MARKERS))
    rows = [model.get_input_embeddings().weight[ids] for model in (one.model, two)]
    assert torch.equal(*rows)
    pieces = one.tokenizer("source", add_special_tokens=False)["input_ids"]
    assert torch.allclose(rows[0][0], one.model.get_input_embeddings().weight[pieces].mean(dim=0))


@pytest.mark.parametrize("backbone", ["bert", "deberta", "llama", "t5"])
def test_gradient_checkpointing_changes_no_gradient(make, backbone):
    def gradient(checkpointing: bool) -> torch.Tensor:
        student = make(backbone)
        if checkpointing:
            student.model.activation_checkpointing_enable()
        student.model.train()
        for module in student.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        student.model.config.dropout_rate = 0.0
        batch = student.layout.collate([Candidates("q", "the cat", (Passage("a", "red"), Passage("b", "green")), ())])
        outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs})
        (outputs["logits"][:, 0] - outputs["logits"][:, 1]).square().sum().backward()
        return student.model.get_input_embeddings().weight.grad

    torch.testing.assert_close(gradient(True), gradient(False), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["bert", "llama", "t5"])
def test_bfloat16_scores_near_float32(make, backbone):
    half = logits_of(make(backbone, dtype="bfloat16"), "the cat", "red", "green")
    assert half.dtype == torch.float32
    assert half.tolist() == pytest.approx(logits_of(make(backbone), "the cat", "red", "green").tolist(), abs=0.1)


def test_labels_never_reach_the_model(make):
    student = make()
    batch = student.layout.collate([Candidates("q", "the cat", (Passage("a", "red"), Passage("b", "green")), ())])
    inputs = {name: batch[name] for name in student.layout.model_inputs}
    student.model(**inputs, inputs_embeds=None)
    with pytest.raises(TypeError, match="takes no labels"):
        student.model(**inputs, labels=torch.ones(2))


def test_prefixes_and_titles_stand_before_the_texts(make):
    student = make(query_prefix="query", passage_prefix="passage")
    one = Candidates("q", "one", (Passage("a", "red", "cat"), Passage("b", "blue")), ())
    [row] = student.layout.rows(one, [(0, 1)])
    assert student.tokenizer.decode([token for token in row.input_ids if token > 4]).split() == [
        *("<|source|>", "query", "one"),
        *("<|candidate1|>", "passage", "cat", "red"),
        *("<|candidate2|>", "passage", "blue"),
    ]


def test_a_model_of_no_known_kind_is_refused(bert_folder, tmp_path):
    from transformers import CLIPConfig

    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path)
    CLIPConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="pair_ranker needs an encoder"):
        load_student(str(tmp_path), "pair_ranker", options=LoadOptions(training=True))


def test_scores_do_not_depend_on_the_batch(make):
    student = make(pad_to_multiple_of=0)
    lists = [
        Candidates("a", "one", tuple(Passage(str(n), "red " * (n + 1)) for n in range(3)), ()),
        Candidates("b", "the cat sat on the mat " * 8, (Passage("x", "green " * 40), Passage("y", "dog")), ()),
    ]

    def scores(candidates) -> torch.Tensor:
        batch = student.layout.collate(candidates)
        batch["mask"] = torch.arange(3) < torch.tensor([len(one.passages) for one in candidates])[:, None]
        with torch.no_grad():
            outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs})
        return student.layout.verdict(outputs, batch).scores

    together = scores(lists)
    for number, one in enumerate(lists):
        assert torch.allclose(scores([one])[0], together[number], atol=1e-5)
    assert torch.allclose(scores([replace(one, query_id="z") for one in lists[::-1]])[1], together[0], atol=1e-5)


@pytest.mark.parametrize("backbone", ["bert", "llama", "t5"])
def test_many_rows_are_cut_into_parts_where_nothing_is_learned(make, backbone, monkeypatch):
    student = make(backbone, pad_to_multiple_of=0)
    one = Candidates("q", "the cat", tuple(Passage(str(n), "red " * (n + 1)) for n in range(4)), ())
    batch = student.layout.collate([one])
    inputs = {name: batch[name] for name in student.layout.model_inputs}
    whole = student.model(**inputs).logits
    seen = []
    forward = type(student.model).__bases__[0].forward

    def counting(self, **given):
        seen.append(len(given["input_ids"]))
        return forward(self, **given)

    monkeypatch.setattr(type(student.model).__bases__[0], "forward", counting)
    monkeypatch.setattr(
        pair_model, "PART_TOKENS", 5 * sum(inputs[name].shape[1] for name in inputs if "input_ids" in name)
    )
    with torch.no_grad():
        parts = student.model(**inputs).logits
    assert seen == [5, 5, 2]
    assert torch.allclose(parts, whole, atol=1e-5)
    seen.clear()
    student.model(**inputs)
    assert seen == [12]
