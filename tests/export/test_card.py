"""A model card says what is on record, and its snippets give the student's scores."""

from __future__ import annotations

import importlib.util
import json
import re
import warnings

import pytest
import yaml
from conftest import WORDS, build_bert, build_causal, build_t5
from huggingface_hub import ModelCard

from tevatron_distill.driver import evaluate, export, report, rerank, train
from tevatron_distill.export import export_student
from tevatron_distill.export.card import MARK, CardOptions, write_card
from tevatron_distill.export.results import read_results
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Group, InputError, Passage

TEACHER = {"name": "pairwise", "sort": "allpair", "model": "google/flan-t5-xl", "prompt": "instructdistill"}


def group(number, size):
    """A query whose passages repeat its word the more, the better they are."""
    word = WORDS[number]
    texts = [" ".join([*[word] * place, *WORDS[place : 10 - place]]) for place in range(size)]
    passages = tuple(Passage(f"d{number}{place}", text) for place, text in enumerate(texts))
    about = {**TEACHER, "answers": 20, "malformed": 1}
    return Group(f"q{number}", word, passages, tuple(reversed(range(size))), size, teacher=about)


@pytest.fixture(scope="module")
def students(make_folder, tmp_path_factory):
    """Train a tiny student, once: ``students(build, student, *flags)`` is its folder."""
    home, made = tmp_path_factory.mktemp("students"), {}
    lines = [group_to_line(group(number, size)) + "\n" for number, size in enumerate((5, 3))]
    (home / "groups.jsonl").write_text("".join(lines), encoding="utf-8")
    taught = {"report": {"asked": 30, "cached": 10, "tokens": 1234}}
    (home / "groups.jsonl.run_config.json").write_text(json.dumps(taught))

    def train_one(build, student, *flags):
        key = (build.__name__, student, *flags)
        if key not in made:
            made[key] = home / f"student{len(made)}"
            words = {"model_name_or_path": make_folder(build), "dataset_path": home / "groups.jsonl"}
            words |= {"output_dir": made[key], "student": student, "loss": "rank_net", "rerank_max_len": 128}
            words |= {"max_steps": 1, "learning_rate": 1e-2, "report_to": "none", "disable_tqdm": "true"}
            train.main(
                ["--use_cpu", *flags, *[str(word) for key, value in words.items() for word in (f"--{key}", value)]]
            )
        return made[key]

    return train_one


@pytest.fixture
def student(students):
    """A cross-encoder."""
    return students(build_bert, "cross_encoder")


def card_of(folder):
    """The card's metadata and its text."""
    card = ModelCard((folder / "README.md").read_text(encoding="utf-8"))
    return card.data.to_dict(), card.text


def write(folder, source, format, notes=(), **options):
    """Write the card of a folder that lies where it is."""
    write_card(folder, source, format, name=str(folder), options=CardOptions(**options), notes=notes)


def code_blocks(text):
    """``{library: code}``, and what goes before each."""
    pairs = re.search(r"```python\n(query = .*?)```", text, re.DOTALL)
    blocks = re.findall(r"^### (.+?)\n(?:(?!###).)*?```python\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    return (pairs.group(1) if pairs else ""), dict(blocks)


LORA = ("--lora", "--lora_target_modules", "query,value")
EXPORTED = {
    "encoder": (build_bert, "cross_encoder", "hub", ()),
    "encoder, adapter": (build_bert, "cross_encoder", "adapter", LORA),
    "encoder, merged": (build_bert, "cross_encoder", "merged", LORA),
    "encoder, onnx": (build_bert, "cross_encoder", "onnx", ()),
    "decoder": (build_causal, "cross_encoder", "hub", ("--query_prefix", "query: ", "--append_eos_token")),
    "decoder, Yes": (build_causal, "yes_token", "hub", ()),
    "decoder, Yes, causal_lm": (build_causal, "yes_token", "causal_lm", ()),
    "decoder, Yes, onnx": (build_causal, "yes_token", "onnx", ()),
    "T5": (build_t5, "yes_token", "hub", ()),
    "bi-encoder": (build_bert, "simcls", "hub", ()),
    "ColBERT": (build_bert, "colbert", "hub", ()),
    "ColBERT, projected": (build_bert, "colbert", "hub", ("--colbert_dim", "16")),
    "ColBERT, onnx": (build_bert, "colbert", "onnx", ()),
    "bi-encoder, onnx": (build_bert, "simcls", "onnx", ()),
    "PairRM": (build_bert, "pair_ranker", "pairrm", ()),
}
LIBRARIES = {
    "encoder": {"transformers", "sentence-transformers", "LangChain", "vLLM"},
    "encoder, adapter": {"transformers and peft", "sentence-transformers", "LangChain"},
    "encoder, merged": set(),
    "encoder, onnx": {"onnxruntime"},
    "decoder": {"transformers", "sentence-transformers", "LangChain", "vLLM"},
    "decoder, Yes": {"transformers", "sentence-transformers", "LangChain", "vLLM"},
    "decoder, Yes, causal_lm": {"transformers", "sentence-transformers", "LangChain"},
    "decoder, Yes, onnx": {"onnxruntime"},
    "T5": {"transformers", "sentence-transformers"},
    "bi-encoder": {"transformers", "sentence-transformers"},
    "ColBERT": {"transformers", "sentence-transformers"},
    "ColBERT, projected": {"transformers", "sentence-transformers"},
    "ColBERT, onnx": {"onnxruntime"},
    "bi-encoder, onnx": {"onnxruntime"},
    "PairRM": set(),
}
OURS = {"tevatron_distill", "onnxruntime, by tevatron_distill"}
NEEDED = {"LangChain": "langchain_community", "sentence-transformers": "sentence_transformers", "vLLM": "vllm"}


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize("kind", EXPORTED)
def test_the_snippets_of_a_card_give_the_students_scores(kind, students, tmp_path, monkeypatch):
    build, student, format, flags = EXPORTED[kind]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, folder = students(build, student, *flags), tmp_path / "exported"
    export_student(str(source), folder, format)
    write(folder, str(source), format)
    pairs, blocks = code_blocks(card_of(folder)[1])
    assert blocks.keys() - OURS == LIBRARIES[kind]
    assert kind.endswith("onnx") or "tevatron_distill" in blocks
    reranker = Reranker.from_pretrained(str(source), device="cpu")
    for library, code in blocks.items():
        if library in NEEDED and importlib.util.find_spec(NEEDED[library]) is None:
            continue  # the card says of vLLM that nobody ran it
        scope: dict = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries, which are not ours
            exec(pairs + code, scope)
        query, passages = scope["query"], scope["passages"]
        if student == "pair_ranker":
            assert [place for place, _ in scope["ranked"]] == [place for place, _ in reranker.rank(query, passages)]
            continue
        expected = reranker.compute_score([[query, passage] for passage in passages])
        assert scope["scores"] == pytest.approx(expected, rel=1e-4, abs=1e-4), library
        assert len(set(expected)) == 2


def test_what_the_student_learned_from_is_told(student, tmp_path):
    write(tmp_path, str(student), "merged", name="org/student", license="apache-2.0")
    data, text = card_of(tmp_path)
    assert data["license"] == "apache-2.0"
    assert data["pipeline_tag"] == "text-ranking"
    assert {"reranker", "distillation", "cross-encoder"} <= set(data["tags"])
    assert "learned its order of passages from `google/flan-t5-xl`" in text
    assert "2 queries, 8 passages" in text
    assert "- `pairwise`, sort `allpair`, model `google/flan-t5-xl`, prompt `instructdistill`, 2 queries" in text
    assert "2 of 40 generated answers had to be repaired" in text
    assert "for `groups.jsonl`: 40 questions asked, 10 of them answered by a cache, 1234 tokens" in text
    record = json.loads((student / "run_config.json").read_text())
    [hash] = record["inputs"].values()
    assert f"- `groups.jsonl`: `{hash}`" in text
    assert "loss rank_net" in text
    assert "learning_rate 0.01" in text
    assert "## Limits" in text
    assert "128 tokens at most" in text
    assert str(student.parent) not in text  # nobody's business


def test_what_nobody_recorded_is_not_made_up(bert_classifier_folder, tmp_path):
    write(tmp_path, str(bert_classifier_folder), "hub")
    data, text = card_of(tmp_path)
    assert data.keys() == {"pipeline_tag", "tags"}
    assert "How it was trained is not known" in text
    assert "Not measured" in text
    assert "Nobody has said" in text
    assert "| began as | unknown |" in text


def test_the_base_model_is_metadata_where_it_came_from_the_hub(student, tmp_path):
    record = json.loads((student / "run_config.json").read_text())
    assert record["report"]["base_revision"] is None
    record["arguments"]["model_name_or_path"] = "sentence-transformers/all-MiniLM-L6-v2"
    for revision, expected in ((None, None), ("1110a24", "sentence-transformers/all-MiniLM-L6-v2")):
        record["report"]["base_revision"] = revision
        (tmp_path / "run_config.json").write_text(json.dumps(record))
        write(tmp_path, str(tmp_path), "merged")
        data, text = card_of(tmp_path)
        assert data.get("base_model") == expected
        (tmp_path / "README.md").unlink()
    assert "sentence-transformers/all-MiniLM-L6-v2 at 1110a24" in text


def test_a_checkpoint_is_told_by_its_trainings_record(student, tmp_path):
    write(tmp_path, str(student / "checkpoint-1"), "plain")
    assert "google/flan-t5-xl" in card_of(tmp_path)[1]


def test_texts_of_the_record_break_no_table(student, tmp_path):
    record = json.loads((student / "run_config.json").read_text())
    record["arguments"]["group_sampling"] = "a|b\n\n# head <script>"
    record["report"]["data"]["teachers"][0]["model"] = "a`b\n- c"
    (tmp_path / "run_config.json").write_text(json.dumps(record))
    write(tmp_path, str(tmp_path), "merged")
    text = card_of(tmp_path)[1]
    assert "group_sampling a\\|b # head &lt;script>" in text
    assert "model `` a`b - c ``" in text


@pytest.fixture
def measured(student, tmp_path, monkeypatch):
    """A first stage's run and the student's, measured; returns the folder."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for number, size in ((0, 5), (1, 3)):
        for place, passage in enumerate(group(number, size).passages):
            row = {"query_id": f"q{number}", "query": WORDS[number], "docid": passage.docid, "title": ""}
            rows.append({**row, "text": passage.text, "score": float(size - place)})
    (tmp_path / "input.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "bm25.tsv").write_text("".join(f"{row['query_id']}\t{row['docid']}\t{row['score']}\n" for row in rows))
    (tmp_path / "qrels.toy.txt").write_text("q0 0 d04 1\nq1 0 d12 1\n")
    words = ["--model_name_or_path", str(student), "--dataset_path", "input.jsonl", "--output_dir", "temp", "--use_cpu"]
    rerank.main([*words, "--rerank_output_path", "student.tsv"])
    return tmp_path


RUNS = ["--qrels_path", "qrels.toy.txt", "--run_path", "bm25.tsv", "student.tsv", "--measures", "nDCG@10", "RR@10"]


def test_results_stand_in_the_card_and_in_its_metadata(measured, student, tmp_path):
    evaluate.main([*RUNS, "--output_path", "results.json"])
    results = read_results("results.json")
    write(tmp_path, str(student), "merged", name="org/student", results=(results,))
    data, text = card_of(tmp_path)
    written = json.loads((measured / "results.json").read_text())
    [entry] = data["model-index"]
    assert entry["name"] == "student"
    [result] = entry["results"]
    assert result["task"]["type"] == "text-ranking"
    assert result["dataset"] == {"name": "qrels.toy", "type": "qrels.toy"}
    mean = written["student.tsv"]["mean"]
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == {
        name: round(value, 4) for name, value in mean.items()
    }
    low, high = written["student.tsv"]["interval"]["nDCG@10"]
    assert f"| **student** (this model) | {mean['nDCG@10']:.4f} [{low:.4f}, {high:.4f}] |" in text
    assert "| bm25 | " in text
    assert "student against bm25, nDCG@10: " in text
    record = json.loads((measured / "student.tsv.run_config.json").read_text())
    assert f"- qrels.toy: {1000 * record['report']['seconds_per_query']:.3g} ms a query, 4 passages each" in text
    assert f"on {record['report']['device']}, in float32" in text


def test_the_page_of_a_report_is_read_like_an_evaluation(measured, student):
    evaluate.main([*RUNS, "--output_path", "results.json"])
    report.main([*RUNS, "--output_path", "report.html", "--dataset_path", "input.jsonl"])
    one, other = (read_results(path).of_models([student]) for path in ("results.json", "report.html"))
    assert one.measures == other.measures
    assert [(run.name, run.means, run.intervals, run.is_own) for run in one.runs] == [
        (run.name, run.means, run.intervals, run.is_own) for run in other.runs
    ]
    assert one.hash == other.hash != ""
    assert one.runs[1].seconds == other.runs[1].seconds > 0


def test_a_run_of_other_weights_is_not_the_models(measured, student, students, tmp_path):
    evaluate.main([*RUNS, "--output_path", "results.json"])
    other = students(build_bert, "simcls")
    results = read_results("results.json").of_models([other])
    assert results.own == []
    write(tmp_path, str(other), "merged", results=(results,))
    data, text = card_of(tmp_path)
    assert "model-index" not in data
    assert "None of these runs is known to be this model's" in text
    record = json.loads((measured / "student.tsv.run_config.json").read_text())
    record["arguments"]["cascade_name_or_path"] = [str(other)]
    (measured / "student.tsv.run_config.json").write_text(json.dumps(record))
    assert read_results("results.json").of_models([student]).own == []  # that of a cascade is not the model's alone


def test_scores_that_the_first_stage_is_mixed_into_are_not_in_the_metadata(measured, student, tmp_path):
    words = ["--model_name_or_path", str(student), "--dataset_path", "input.jsonl", "--output_dir", "temp", "--use_cpu"]
    more = ["--rerank_output_path", "student.tsv", "--first_stage_weight", "0.3", "--overwrite_output_dir"]
    rerank.main([*words, *more])
    evaluate.main([*RUNS, "--output_path", "results.json"])
    write(tmp_path, str(student), "merged", results=(read_results("results.json"),))
    data, text = card_of(tmp_path)
    assert "model-index" not in data
    assert "**student** (this model), mixed with the first stage" in text


@pytest.mark.parametrize("content", ["[]", "{}", '{"a": {"b": 1}}'])
def test_a_file_that_holds_no_results_is_refused(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=r"takes what driver\.evaluate --output_path writes"):
        read_results(str(tmp_path / "results.json"))


def test_a_card_that_somebody_wrote_stays_above_ours(student, tmp_path):
    source, out, again = (tmp_path / name for name in ("source", "out", "again"))
    for folder in (source, out, again):
        folder.mkdir()
    (source / "run_config.json").write_text((student / "run_config.json").read_text())
    (source / "README.md").write_text("---\nlicense: mit\ntags: [mine]\ntitle: T\n---\n# Mine\n\nBy hand.\n")
    write(out, str(source), "merged", license="apache-2.0")
    data, text = card_of(out)
    assert (data["license"], data["title"]) == ("mit", "T")  # as written
    assert {"mine", "reranker"} <= set(data["tags"])
    assert text.strip().startswith("# Mine\n\nBy hand.\n\n" + MARK)
    (out / "run_config.json").write_text((student / "run_config.json").read_text())
    write(again, str(out), "merged", license="apache-2.0")
    data, text = card_of(again)
    assert (data["license"], data["title"]) == ("apache-2.0", "T")
    assert text.count("By hand.") == text.count(MARK) == text.count("## Limits") == 1


def test_a_card_without_metadata_is_kept_too(tmp_path):
    (tmp_path / "README.md").write_text("Just words, and one [More Information Needed].\n")
    write(tmp_path, str(tmp_path), "merged")
    assert card_of(tmp_path)[1].strip().startswith("Just words, and one")


def test_cards_that_programs_make_are_replaced(students, tmp_path):
    source = students(build_bert, "cross_encoder", *LORA)
    assert "# Model Card for Model ID" in (source / "README.md").read_text()  # peft's
    write(tmp_path, str(source), "adapter")
    assert "Model Card for" not in (tmp_path / "README.md").read_text()
    trainers = (
        "This model card has been generated automatically according to the information the Trainer had access to."
    )
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\n---\n<!-- {trainers} -->\n# out\n")
    write(tmp_path, str(tmp_path), "merged")
    assert "license" not in card_of(tmp_path)[0]


def test_metadata_that_is_no_yaml_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("---\na: [\n---\nx\n")
    with pytest.raises(InputError, match=r"README\.md: a card's metadata must be YAML"):
        write(tmp_path, str(tmp_path), "merged")


def test_notes_of_the_export_are_limits(student, tmp_path):
    write(tmp_path, str(student), "merged", notes=["the student caps its logits at 30"])
    assert "- The student caps its logits at 30.\n" in card_of(tmp_path)[1]


def test_the_cards_head_is_plain_yaml(student, tmp_path):
    write(tmp_path, str(student), "merged", name="org/a name: odd", license="mit")
    head = (tmp_path / "README.md").read_text().split("---\n")[1]
    assert yaml.safe_load(head)["license"] == "mit"


def test_the_driver_writes_the_card_with_what_it_is_told(measured, student, tmp_path):
    evaluate.main([*RUNS, "--output_path", "results.json"])
    words = ["--results_path", "results.json", "--license", "apache-2.0", "--hub_model_id", "org/student"]
    export.main(["--model_name_or_path", str(student), "--output_dir", "out", *words])
    data, text = card_of(tmp_path / "out")
    assert data["license"] == "apache-2.0"
    assert data["model-index"][0]["results"]
    assert 'AutoTokenizer.from_pretrained("org/student")' in text
    export.main(
        ["--checkpoint", str(student / "checkpoint-1"), "--output_dir", "plain", "--results_path", "results.json"]
    )
    data, text = card_of(tmp_path / "plain")
    assert data["model-index"][0]["results"]
    assert 'Reranker.from_pretrained("plain")' in text


def test_results_that_cannot_be_read_stop_the_export_before_any_work(student, tmp_path):
    words = ["--model_name_or_path", str(student), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(InputError, match=r"missing\.json"):
        export.main([*words, "--results_path", str(tmp_path / "missing.json")])
    assert not (tmp_path / "out").exists()
