"""One folder, the same scores: by sentence-transformers, transformers, vLLM's way with tokens, and our own loader."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import WORDS
from exported_kinds import DOCUMENTS, KINDS, POINTWISE, QUERY, ROW, our_scores, trained
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tevatron_distill.export import export_student, hub, rescoring, template
from tevatron_distill.schema import InputError
from tevatron_distill.students import load_student

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="the extra `st` (sentence-transformers) is not installed"
)
CLASSIFIERS = [name for name in POINTWISE if not name.startswith(("t5", "passage first"))]
RENDERED = [name for name in CLASSIFIERS if not name.startswith(("bert", "modernbert")) and name != "xlm-r"]
PAIRS = [(QUERY, text) for text in DOCUMENTS]


@pytest.fixture
def student(make_folder, tmp_path_factory):
    return lambda name: trained(name, make_folder, tmp_path_factory)


@pytest.fixture(scope="module")
def exported(make_folder, tmp_path_factory):
    """Export a student once: ``exported(name)``."""
    done = {}

    def export(name):
        if name not in done:
            folder = tmp_path_factory.mktemp("exported") / "hub"
            export_student(str(trained(name, make_folder, tmp_path_factory)), folder)
            done[name] = folder
        return done[name]

    return export


def predicted(folder, pairs=PAIRS, **keywords):
    model = sentence_transformers.CrossEncoder(str(folder), device="cpu", **keywords)
    return model.predict(pairs, show_progress_bar=False).tolist()


def rows_of(folder, pairs, add_special_tokens):
    """Token rows after the template was rendered."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [rescoring.render(tokenizer, *pair) for pair in pairs]
    return tokenizer, tokenizer(texts, add_special_tokens=add_special_tokens)["input_ids"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_sentence_transformers_scores_an_exported_folder_as_we_do_long_texts_included(name, student, exported):
    pairs = PAIRS if name in RENDERED else [(query, text.strip()) for query, text in PAIRS]
    assert predicted(exported(name), pairs) == pytest.approx(our_scores(student(name)), abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_our_own_loader_scores_an_exported_folder_as_before(name, student, exported):
    assert our_scores(exported(name)) == pytest.approx(our_scores(student(name)), abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("name", ["mistral yes", "rankllama by pairs", "bert"])
def test_an_exported_folder_is_exported_again_as_it_is(name, exported, tmp_path):
    export_student(str(exported(name)), tmp_path / "again")
    for path in exported(name).iterdir():
        if path.suffix in (".json", ".jinja"):
            both = [(folder / path.name).read_text() for folder in (exported(name), tmp_path / "again")]
            one, again = both if path.suffix == ".jinja" else map(json.loads, both)
            assert one == again, path.name


@pytest.mark.parametrize("name", ["mistral yes", "rankllama"])
def test_plain_transformers_needs_no_code_of_ours(name, student, exported):
    tokenizer, rows = rows_of(exported(name), [PAIRS[0]], add_special_tokens=False)
    model = AutoModelForSequenceClassification.from_pretrained(exported(name)).eval()
    with torch.inference_mode():
        got = model(torch.tensor(rows)).logits.flatten().tolist()
    assert got == pytest.approx(our_scores(student(name))[:1], abs=1e-4)
    assert model.config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("name", RENDERED)
def test_the_beginning_stands_once_whether_special_tokens_are_added_or_not(name, exported):
    """Trap: double or missing BOS. sentence-transformers adds no special tokens after rendering, vLLM does."""
    tokenizer, without = rows_of(exported(name), PAIRS, add_special_tokens=False)
    _, added = rows_of(exported(name), PAIRS, add_special_tokens=True)
    assert without == added
    times = 2 if name == "rankllama by pairs" else 1  # RankLLaMA's card puts one before each text
    begins = tokenizer.bos_token_id
    if begins is not None:
        assert [row.count(begins) for row in without] == [times] * len(PAIRS)
        assert all(row[0] == begins for row in without)


def test_a_tokenizer_that_adds_the_beginning_once_more_is_not_published(student, tmp_path, monkeypatch):
    monkeypatch.setattr(template, "BARE", ("<s>:0 $A:0", "<s>:0 $A:0 $B:0"))
    with pytest.raises(InputError, match=r"no chat template can stand for its rows"):
        export_student(str(student("llama yes")), tmp_path / "hub")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["bert", "llama yes"])
def test_scores_are_raw_and_a_hidden_sigmoid_is_refused(name, student, exported, tmp_path, monkeypatch):
    """Trap: the default activation."""
    ours = our_scores(student(name))
    assert predicted(exported(name)) != pytest.approx(torch.tensor(ours).sigmoid().tolist(), abs=0.01)
    config = json.loads((exported(name) / "config.json").read_text())
    assert config["sentence_transformers"]["activation_fn"] == "torch.nn.modules.linear.Identity"
    monkeypatch.setattr(hub, "ACTIVATION", {})
    monkeypatch.setattr("tevatron_distill.export.sentence_files.IDENTITY", "torch.nn.modules.activation.Sigmoid")
    with pytest.raises(InputError, match=r"by sentence-transformers it is .* off .*nothing was written"):
        export_student(str(student(name)), tmp_path / "hub")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["rankllama, pad is eos", "qwen3 yes"])
def test_the_pad_token_never_ends_a_sequence(name, exported):
    """Trap: the classifier pools the last token that is not the pad token, whatever the mask says."""
    config, tokenizer = AutoConfig.from_pretrained(exported(name)), AutoTokenizer.from_pretrained(exported(name))
    assert config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.padding_side == "right"


def test_the_chat_template_of_the_base_model_is_replaced(student, exported):
    """Trap: a template that prints any role, and scores something else."""
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (student("qwen3 yes"), exported("qwen3 yes")))
    assert "im_start" in before.chat_template
    assert "im_start" not in after.chat_template
    assert "Predict whether the given passage answer the question." in after.chat_template


def test_an_encoder_has_no_template_and_is_read_as_pairs(exported):
    names = {path.name for path in exported("bert").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "reranker_config.json"} <= names
    assert not names & {"modules.json", "chat_template.jinja"}


@pytest.mark.parametrize("name", ["llama yes", "mistral yes", "qwen3 as published"])
def test_a_passage_that_is_too_long_never_eats_the_query_or_the_prompts_end(name, exported):
    """Trap: truncation on the right."""
    model = sentence_transformers.CrossEncoder(str(exported(name)), device="cpu")
    _, [whole] = rows_of(exported(name), [PAIRS[1]], add_special_tokens=False)
    [cut] = model.preprocess([PAIRS[1]])["input_ids"].tolist()
    assert len(cut) == model.max_seq_length < len(whole)
    assert cut[:20] == whole[:20]
    assert cut[-5:] == whole[-5:]
    assert QUERY in model.tokenizer.decode(cut)


def test_a_prompt_with_the_passage_first_is_refused_with_the_way_out(student, tmp_path):
    with pytest.raises(InputError, match=r"shows the passage before the query.*--format onnx"):
        export_student(str(student("passage first")), tmp_path / "hub")
    assert not list(tmp_path.iterdir())


def test_a_cap_on_logits_that_matters_is_refused_and_a_wide_one_is_told(student, tmp_path, make_folder, caplog):
    """Trap: Gemma 2 caps its logits, and no classifier does."""
    export_student(str(student("gemma2 yes")), tmp_path / "wide")
    assert "caps its logits at 30" in caplog.text
    folder = tmp_path / "narrow"
    AutoModelForCausalLM.from_pretrained(student("gemma2 yes"))
    folder.mkdir()
    for path in student("gemma2 yes").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    settings = json.loads((folder / "reranker_config.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    (folder / "reranker_config.json").write_text(json.dumps({**settings, "softcap": 0.5}))
    (folder / "config.json").write_text(json.dumps({**config, "final_logit_softcapping": 0.5}))
    with pytest.raises(InputError, match=r"nothing caps at 0\.5.*formats that fit: .*causal_lm"):
        export_student(str(folder), tmp_path / "hub")
    export_student(str(folder), tmp_path / "lm", "causal_lm")
    assert predicted(tmp_path / "lm") == pytest.approx(our_scores(folder), abs=1e-4)


def test_half_precision_keeps_scores_apart(exported):
    """Trap: a head in bfloat16 makes equal scores of unequal ones; the folder asks for it in float32."""
    pairs = [(QUERY, " ".join([word] * count)) for word in WORDS[:6] for count in range(1, 21)]
    kept = predicted(exported("llama yes"), pairs, model_kwargs={"dtype": torch.bfloat16})
    lost = predicted(exported("llama yes"), pairs, model_kwargs={"dtype": torch.bfloat16}, keep_in_fp32_modules=[])
    assert len(set(lost)) < len(set(kept))
    assert len(set(kept)) > 0.95 * len(pairs)


def test_tevatrons_driver_is_told_what_opens_a_row(student, tmp_path, caplog):
    assert "Tevatron's way with rows" in export_student(str(student("rankllama")), tmp_path / "hub")
    assert "--query_prefix '<s>query: '" in caplog.text


def test_configs_say_what_other_programs_look_for(exported):
    config = json.loads((exported("qwen3 yes") / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForSequenceClassification"]
    assert config["id2label"] == {"0": "LABEL_0"}  # Text Embeddings Inference counts these
    assert config["label2id"] == {"LABEL_0": 0}
    assert config["rope_theta"] == 500000.0  # transformers 4 looks here, and would take its default
    tokenizer = json.loads((exported("qwen3 yes") / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"  # transformers 4 knows no TokenizersBackend
    assert tokenizer["model_max_length"] == ROW
    assert not {"is_local", "add_bos_token"} & tokenizer.keys()
    modules = json.loads((exported("qwen3 yes") / "modules.json").read_text())  # vLLM takes the template of one module
    assert [(module["path"], module["type"].rpartition(".")[2]) for module in modules] == [("", "Transformer")]
    said = json.loads((exported("qwen3 yes") / "sentence_bert_config.json").read_text())
    assert said["modality_config"]["message"]["format"] == "flat"


def test_without_sentence_transformers_an_export_says_what_it_did_not_compare(student, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("tevatron_distill.export.original.is_installed", lambda module: False)
    differences = export_student(str(student("bert")), tmp_path / "hub")
    assert "sentence-transformers" not in differences
    assert 'pip install "tevatron-distill[st]"' in caplog.text


def test_prefixes_of_an_encoder_with_segments_are_refused(bert_classifier_folder, tmp_path):
    loaded = load_student(str(bert_classifier_folder), settings={"query_prefix": "q:"})
    loaded.model.save_pretrained(tmp_path / "student")
    loaded.tokenizer.save_pretrained(tmp_path / "student")
    loaded.layout.settings.save(tmp_path / "student")
    with pytest.raises(InputError, match="put the prefixes into the texts"):
        export_student(str(tmp_path / "student"), tmp_path / "hub")


@pytest.mark.parametrize("name", ["summa", "colbert of open-retrievals", "pairs, llama"])
def test_a_student_that_no_library_knows_is_refused_with_what_fits(name, student, tmp_path):
    with pytest.raises(InputError, match=r"formats that fit: "):
        export_student(str(student(name)), tmp_path / "hub")
    assert not list(tmp_path.iterdir())


def test_every_kind_is_exported_or_refused_here():
    assert set(KINDS) >= set(CLASSIFIERS)
