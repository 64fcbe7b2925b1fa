"""The driver rerank with onnxruntime, and with a chain of students."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import WORDS

from tevatron_distill.driver import rerank as driver
from tevatron_distill.driver.rerank import main
from tevatron_distill.formats.runs import read_run
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import InputError
from tevatron_distill.students import load_student


@pytest.fixture
def command(tmp_path, bert_classifier_folder):
    """Two students, `small` and `large`, and lists of six candidates of four queries."""
    rows = [
        {
            "query_id": f"q{query}",
            "query": WORDS[query],
            "docid": f"d{place}",
            "text": " ".join(WORDS[place : place + 4]),
            "score": 20.0 - place,
        }
        for query in range(4)
        for place in range(6)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for seed, name in enumerate(("small", "large")):
        student = load_student(str(bert_classifier_folder))
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight in student.model.parameters():
                weight += 0.2 * torch.randn_like(weight)
        student.model.save_pretrained(tmp_path / name)
        student.tokenizer.save_pretrained(tmp_path / name)
        student.layout.settings.save(tmp_path / name)

    def build(*more: str) -> list[str]:
        return [
            *("--output_dir", str(tmp_path / "temp")),
            *("--model_name_or_path", str(tmp_path / "large")),
            *("--dataset_path", str(tmp_path / "rows.jsonl")),
            *("--rerank_output_path", str(tmp_path / "run.tsv")),
            *("--cache_dir", str(tmp_path / "cache")),
            *("--use_cpu", "True"),
            *more,
        ]

    return build


def both(tmp_path):
    return ("--cascade_name_or_path", str(tmp_path / "small"), "--cascade_depth", "2")


def best(run):
    return {query: sorted(ranked, key=lambda docid: -ranked[docid]) for query, ranked in run.items()}


def test_a_cascade_puts_the_large_students_choice_above_the_small_ones_order(command, tmp_path):
    runs = {}
    for name, more in (
        ("large", ()),
        ("small", ("--model_name_or_path", str(tmp_path / "small"))),
        ("both", both(tmp_path)),
    ):
        main(command(*more, "--rerank_output_path", str(tmp_path / name) + ".tsv"))
        runs[name] = read_run(tmp_path / f"{name}.tsv")
    for query, order in best(runs["small"]).items():
        top = sorted(order[:2], key=lambda docid: -runs["large"][query][docid])
        assert best(runs["both"])[query] == top + order[2:]
        for docid in top:
            assert runs["both"][query][docid] == pytest.approx(runs["large"][query][docid], abs=1e-5)
    assert best(runs["both"]) != best(runs["large"])
    record = json.loads((tmp_path / "both.tsv.run_config.json").read_text())
    assert {str(tmp_path / name / "model.safetensors") for name in ("small", "large")} <= record["inputs"].keys()


def test_a_cascades_order_mixes_with_the_first_stage(command, tmp_path):
    main(command(*both(tmp_path), "--first_stage_weight", "1"))
    assert best(read_run(tmp_path / "run.tsv")) == {f"q{n}": [f"d{place}" for place in range(6)] for n in range(4)}


def test_an_interrupted_cascade_goes_on_unless_a_smaller_student_has_changed(command, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "BLOCK_PAIRS", 6)
    main(command(*both(tmp_path)))
    whole = (tmp_path / "run.tsv").read_bytes()
    (tmp_path / "run.tsv").unlink()
    score, left = Reranker.score_candidates, [5]

    def dies(self, candidates):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return score(self, candidates)

    with monkeypatch.context() as patch:
        patch.setattr(Reranker, "score_candidates", dies)
        with pytest.raises(KeyboardInterrupt):
            main(command(*both(tmp_path)))
    assert (tmp_path / "run.tsv.partial").stat().st_size
    shutil.copy(tmp_path / "small" / "model.safetensors", tmp_path / "kept")
    shutil.copy(tmp_path / "large" / "model.safetensors", tmp_path / "small" / "model.safetensors")
    with pytest.raises(InputError, match="small"):
        main(command(*both(tmp_path)))
    shutil.copy(tmp_path / "kept", tmp_path / "small" / "model.safetensors")
    main(command(*both(tmp_path)))
    assert (tmp_path / "run.tsv").read_bytes() == whole


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_cascade_in_onnxruntime_ranks_as_in_torch(command, tmp_path, dtype):
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    main(command(*both(tmp_path)))
    expected = read_run(tmp_path / "run.tsv")
    main(command(*both(tmp_path), "--backend", "onnx", "--onnx_dtype", dtype, "--overwrite_output_dir"))
    got = read_run(tmp_path / "run.tsv")
    assert len(list((tmp_path / "cache" / "tevatron_distill" / "onnx").iterdir())) == 2
    if dtype == "float32":
        assert best(got) == best(expected)
        for query, ranked in expected.items():
            assert got[query] == pytest.approx(ranked, abs=1e-4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--onnx_dtype", "int8"), "needs --backend onnx"),
        (("--cascade_depth", "2"), "one number for each student"),
        (("--cascade_name_or_path", "small"), "one number for each student"),
        (("--backend", "jax"), "backend"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(command, more, message, capsys):
    with pytest.raises((InputError, SystemExit)) as raised:
        main(command(*more))
    assert message in f"{raised.value} {capsys.readouterr().err}"


def test_torch_compile_is_honoured_by_every_student(command, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda model, **options: compiled.append(options))
    main(command("--torch_compile", "True", *both(tmp_path)))
    assert compiled == [{"dynamic": True}] * 2


def test_torch_compile_does_not_go_with_onnx(command):
    with pytest.raises(InputError, match=r"--torch_compile .* leave it out of --backend onnx"):
        main(command("--torch_compile", "True", "--backend", "onnx"))
