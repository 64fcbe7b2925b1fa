"""Released models' figures: what passes, what differs, and what was not run; with tiny folders in the hub's place."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import build_bert
from documented import ROOT
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.retrieve import RetrieveArguments
from tevatron_distill.formats import load_candidates
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run, write_run
from tevatron_distill.schema import InputError


@pytest.fixture
def scripts(monkeypatch):
    """The modules of scripts/, as they find each other."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    names = ("verify_published", "published_sets", "reproduce_table")
    return {name: importlib.import_module(name) for name in names}


@pytest.fixture
def verify(scripts, monkeypatch):
    """The checks, on a machine that lacks nothing but the hub."""
    module = scripts["verify_published"]
    monkeypatch.setattr(module, "hub_answers", lambda: False)
    return module


def check_of(verify, name: str, **changes: object):
    [check] = [check for check in verify.CHECKS if check.name == name]
    return replace(check, **changes)


def plain_scores(folder: Path, pairs: list[list[str]]) -> list[float]:
    """A cross-encoder's logits by transformers alone."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [tokenizer(*pair, return_tensors="pt") for pair in pairs]
        return [model(**row).logits.item() for row in rows]


def run_checks(verify, monkeypatch, capsys, tmp_path, *checks) -> tuple[int, str]:
    """The exit status and what is printed."""
    monkeypatch.setattr(verify, "CHECKS", list(checks))
    status = verify.main(["--work", str(tmp_path / "work"), "--folder", str(tmp_path / "sets")])
    return status, capsys.readouterr().out


def test_a_figure_that_is_reached_passes(verify, monkeypatch, capsys, tmp_path, bert_classifier_folder):
    expected = plain_scores(bert_classifier_folder, verify.PAIRS)
    check = check_of(verify, "bge-reranker-base", model=str(bert_classifier_folder), expected=expected)
    status, printed = run_checks(verify, monkeypatch, capsys, tmp_path, check)
    assert status == 0
    assert "| passed |" in printed
    assert "1 passed" in printed


def test_one_figure_that_differs_fails_beside_one_that_passes(
    verify, monkeypatch, capsys, tmp_path, bert_classifier_folder
):
    first, second = plain_scores(bert_classifier_folder, verify.PAIRS)
    good = check_of(verify, "bge-reranker-base", model=str(bert_classifier_folder), expected=[first, second])
    bad = replace(good, name="bad", expected=[first, second + 2 * good.tolerance])
    status, printed = run_checks(verify, monkeypatch, capsys, tmp_path, good, bad)
    assert status == 1
    assert re.findall(r"(passed|differs|not run) \|$", printed, re.MULTILINE) == ["passed", "differs"]
    assert "1 passed, 1 differs" in printed


def test_a_check_without_its_model_is_not_run_and_never_passes(verify, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(verify, "is_cached", lambda model: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, printed = run_checks(verify, monkeypatch, capsys, tmp_path, *verify.CHECKS)
    assert status == 2
    assert "passed" not in printed
    assert printed.count("| not run |") == len(verify.CHECKS)
    assert printed.count("needs a GPU") == sum(check.gpu for check in verify.CHECKS) > 0
    assert "needs the hub (huggingface.co)" in printed


def test_a_missing_package_is_named(verify):
    check = check_of(verify, "bge-reranker-base", packages=("no_such_package",))
    assert "the package no_such_package" in verify.missing(check)


def test_too_few_figures_do_not_pass(verify):
    check = check_of(verify, "bge-reranker-base")
    assert verify.Result(check, check.expected[:1]).verdict == "differs"
    assert verify.Result(check, []).verdict == "differs"


def test_a_model_that_cannot_be_loaded_is_not_run(verify, monkeypatch, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    check = check_of(verify, "bge-reranker-base", model=str(tmp_path / "empty"))
    status, printed = run_checks(verify, monkeypatch, capsys, tmp_path, check)
    assert status == 2
    assert "1 not run" in printed


def test_token_vectors_and_scores_are_those_of_open_retrievals_formula(verify, tmp_path):
    folder = build_bert(tmp_path)
    torch.manual_seed(3)
    linear = torch.nn.Linear(32, 24)
    torch.save(linear.state_dict(), folder / "colbert_linear.pt")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def vectors(text: str) -> torch.Tensor:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:]
            return torch.nn.functional.normalize(linear(hidden), dim=-1)

    query, *passages = map(vectors, (verify.KICKBOXING, verify.LONG, "A man is playing a guitar."))
    expected = [(query @ passage.T).max(dim=1).values.sum().item() for passage in passages]
    assert verify.token_scores(str(folder), tmp_path, tmp_path) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    longest = max(len(query), len(passages[0]))
    assert verify.token_vectors(str(folder), tmp_path, tmp_path) == [2, longest, 24]


@pytest.fixture
def toy_recipe(scripts, monkeypatch, tmp_path):
    """A recipe on two sets with their mean, whose candidates lie ready; gives the folder of the sets."""
    recipe = {"checkpoint": "org/toy", "measure": "nDCG@10", "source": "nobody", "figures": {"one": 0.5, "both": 0.75}}
    values = {"means": {"both": ["one", "two"]}, "recipes": {"toy": recipe}}
    (tmp_path / "published.json").write_text(json.dumps(values))
    monkeypatch.setattr(scripts["reproduce_table"], "PUBLISHED", tmp_path / "published.json")
    for number, name in enumerate(("one", "two")):
        folder = tmp_path / "sets" / name
        folder.mkdir(parents=True)
        texts = ["red green", "blue", "yellow one two three"]
        rows = [
            {"query_id": "q", "query": "red", "docid": f"d{place}", "title": "", "text": text, "score": -place}
            for place, text in enumerate(texts)
        ]
        (folder / "candidates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "qrels.txt").write_text(f"q 0 d{number} 1\n")
    return tmp_path / "sets"


def test_a_recipe_is_measured_on_all_its_sets_with_their_mean(
    scripts, verify, toy_recipe, monkeypatch, capsys, tmp_path, bert_classifier_folder
):
    texts = ["red green", "blue", "yellow one two three"]
    scores = plain_scores(bert_classifier_folder, [["red", text] for text in texts])
    places = [sorted(scores, reverse=True).index(score) + 1 for score in scores]
    gains = [1 / torch.log2(torch.tensor(place + 1.0)).item() for place in places]
    check = verify.recipe_check("toy", 1e-4, (), "--use_cpu")
    check = replace(check, model=str(bert_classifier_folder), gpu=False, expected=[gains[0], (gains[0] + gains[1]) / 2])
    status, printed = run_checks(verify, monkeypatch, capsys, tmp_path, check)
    assert (status, printed.count("| passed |")) == (0, 1)
    # the runs are kept, by model, and not made again
    [first, _] = sorted((tmp_path / "work").rglob("run.*.tsv"))
    assert list(read_run(first)["q"]) == [f"d{place}" for place in sorted(range(3), key=lambda n: -scores[n])]
    assert run_checks(verify, monkeypatch, capsys, tmp_path, check)[0] == 0


def test_the_table_leaves_blank_what_was_not_run(scripts, toy_recipe, tmp_path, capsys):
    table = scripts["reproduce_table"]
    work = tmp_path / "work"
    work.mkdir()
    write_run(work / "run.one.tsv", {"q": {"d0": 2.0, "d1": 1.0}})
    table.main(["toy", "--work", str(work), "--folder", str(toy_recipe)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == ["| one | 0.5000 | 1.0000 | +0.5000 |", "| both | 0.7500 |  |  |"]
    assert lines[-1] == "Published: nobody."


def test_every_recipe_that_is_checked_or_tabulated_has_sets_that_are_known(scripts):
    recipes, means = scripts["reproduce_table"].load()
    known = set(scripts["published_sets"].SOURCES)
    for name, recipe in recipes.items():
        assert set(scripts["reproduce_table"].sets_of(recipe, means)) <= known, name
        assert recipe.source
        assert all(0 < figure < 1 for figure in recipe.figures.values())
    assert len(means["beir8"]) == 8
    assert len(means["nanobeir"]) == 13


def test_every_set_is_made_by_a_command_that_retrieve_takes(scripts):
    sets = scripts["published_sets"]
    for source in sets.SOURCES.values():
        (parsed,) = parse_arguments(sets.command(source, Path("folder")), RetrieveArguments, prog="retrieve")
        assert parsed.depth == source.depth


CORPUS = [{"docid": f"d{number}", "title": "", "text": f"text {number}"} for number in range(5)]


def write_collection(folder: Path) -> None:
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CORPUS))
    (folder / "queries.tsv").write_text("q1\tred\nq2\tgreen\nunjudged\tblue\n")
    (folder / "judged.txt").write_text("q1 0 d1 2\nq2 0 d2 1\n")


def parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"qid": "q1", "docno": f"d{number}", "score": 9.0 - number % 4} for number in range(5)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([*rows, {"qid": "q9", "docno": "d1", "score": 1.0}]), path)


@pytest.mark.parametrize("address", ["https://nowhere/run.txt?key=1", "https://nowhere/run.parquet"])
def test_a_set_is_made_of_a_run_that_is_downloaded(scripts, address, monkeypatch, tmp_path):
    sets = scripts["published_sets"]
    write_collection(tmp_path)

    def fetch(asked: str, path: Path) -> None:
        assert asked == address
        if address.endswith("parquet"):
            parquet(path)
        else:
            Path(path).write_text(
                "".join(f"q1 Q0 d{n} {n + 1} {9.0 - n % 4} x\n" for n in range(5)) + "q9 Q0 d1 1 1 x\n"
            )

    monkeypatch.setattr(sets.urllib.request, "urlretrieve", fetch)
    queries, qrels, corpus = (str(tmp_path / name) for name in ("queries.tsv", "judged.txt", "corpus.jsonl"))
    monkeypatch.setitem(sets.SOURCES, "toy", sets.Source(queries, qrels, run=address, corpus=corpus, depth=4))
    target = sets.make("toy", tmp_path / "sets")
    [one] = load_candidates(target / "candidates.jsonl")
    assert (one.query_id, one.query) == ("q1", "red")
    assert [passage.docid for passage in one.passages] == ["d0", "d4", "d1", "d2"]
    assert list(one.scores) == sorted(set(one.scores), reverse=True)
    assert read_qrels(target / "qrels.txt") == {"q1": {"d1": 2}, "q2": {"d2": 1}}
    # it is there: nothing is fetched again
    monkeypatch.setattr(sets.urllib.request, "urlretrieve", None)
    assert sets.make("toy", tmp_path / "sets") == target


def test_nanobeirs_own_ranking_is_taken(scripts, monkeypatch, tmp_path):
    sets = scripts["published_sets"]
    write_collection(tmp_path)
    asked = []

    def read(name: str, config: str, split: str):
        asked.append((name, config, split))
        yield "row", {"query-id": "q2", "corpus-ids": ["d3", "d2", "d0"]}

    monkeypatch.setattr(sets, "read_dataset", read)
    queries, qrels, corpus = (str(tmp_path / name) for name in ("queries.tsv", "judged.txt", "corpus.jsonl"))
    monkeypatch.setitem(sets.SOURCES, "toy", sets.Source(queries, qrels, run="NanoToy", corpus=corpus, depth=2))
    [one] = load_candidates(sets.make("toy", tmp_path / "sets") / "candidates.jsonl")
    assert [passage.docid for passage in one.passages] == ["d3", "d2"]
    assert asked == [(sets.NANO, "bm25", "NanoToy")]


def test_an_unknown_set_names_those_that_are_known(scripts, tmp_path):
    with pytest.raises(InputError, match="no set of this name; known are dl19"):
        scripts["published_sets"].make("dl1999", tmp_path)


def test_a_download_that_fails_leaves_no_part_and_says_where_the_file_belongs(scripts, monkeypatch, tmp_path):
    sets = scripts["published_sets"]

    def fail(address: str, path: Path) -> None:
        raise OSError("no route")

    monkeypatch.setattr(sets.urllib.request, "urlretrieve", fail)
    with pytest.raises(InputError, match=r"could not be downloaded \(no route\); put the file at .*run.txt"):
        sets.download("https://nowhere", tmp_path / "run.txt")
    assert not (tmp_path / "run.txt").exists()
