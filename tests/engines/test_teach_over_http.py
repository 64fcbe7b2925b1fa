"""Teaching by a model behind a server that answers well, badly, slowly or not at all."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
import time

import pytest
from stub_server import MODEL, StubServer, choice_of, completion

from tevatron_distill.driver import teach
from tevatron_distill.formats.groups import read_groups
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.schema import Candidates, InputError, Passage

SECRET = "sk-very-secret"
NUM_QUERIES, DEPTH = 6, 5


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


@pytest.fixture
def rows(tmp_path):
    """Six queries with five passages; the worth of each is in its text and grows to the back."""
    candidates = (
        Candidates(
            f"q{number}",
            f"query {number}",
            tuple(Passage(f"d{place}", f"worth {place}") for place in range(DEPTH)),
            tuple(map(float, range(DEPTH, 0, -1))),
        )
        for number in range(NUM_QUERIES)
    )
    path = tmp_path / "rerank_input.jsonl"
    path.write_text("".join(f"{line}\n" for line in write_candidates_lines(candidates)))
    return path


def flags(rows, server, output, *more):
    return [
        *("--dataset_path", str(rows), "--output_path", str(output), "--engine", "openai_compatible"),
        *("--base_url", server.url, "--model_name_or_path", MODEL, "--queries_per_round", "2", "--max_retries", "0"),
        *map(str, more),
    ]


def worths_in(body):
    said = " ".join(turn["content"] for turn in body["messages"] if turn["role"] == "user")
    return [int(worth) for worth in re.findall(r"worth (\d)", said)]


def best_first(body, path):
    """The better passage of two."""
    first, second = worths_in(body)
    return choice_of({"A": -0.1 - (second > first), "B": -0.1 - (first > second), " the": -9.0})


def listed(body, path):
    worths = worths_in(body)
    order = sorted(range(len(worths)), key=lambda place: -worths[place])
    return completion(" > ".join(f"[{place + 1}]" for place in order))


NONSENSE = completion("I am a teapot", choice_of({" the": -0.5, "I": -1.5})["choices"][0]["logprobs"])


def spoilt(answer, every):
    """An answer in which every so manieth question, by its words, gets nonsense."""

    def reply(body, path):
        number = sum(json.dumps(body["messages"]).encode())
        return NONSENSE if number % every == 0 else answer(body, path)

    return reply


@pytest.mark.parametrize(
    ("teacher", "answer"), [("pairwise", best_first), ("listwise", listed)], ids=["choice", "text"]
)
@pytest.mark.parametrize("concurrency", [1, 7])
def test_a_server_teaches_and_its_tokens_are_counted(rows, tmp_path, capsys, teacher, answer, concurrency):
    out = tmp_path / "out" / "groups.jsonl"
    prices = ["--price_per_million_input", 2.0, "--price_per_million_output", 4.0]
    with StubServer(answer) as server:
        teach.main(flags(rows, server, out, "--teacher", teacher, "--concurrency", concurrency, *prices))
        asked = len(server.bodies)
    assert asked == NUM_QUERIES * (DEPTH * (DEPTH - 1) if teacher == "pairwise" else 1)
    for group in read_groups(out):
        assert group.permutation == (4, 3, 2, 1, 0)
        assert group.num_ranked == DEPTH
        assert group.teacher["malformed"] == 0
    report = json.loads((out.parent / "groups.jsonl.run_config.json").read_text())["report"]
    assert (report["input_tokens"], report["output_tokens"], report["tokens"]) == (10 * asked, asked, 11 * asked)
    assert report["cost"] == pytest.approx((10 * asked * 2.0 + asked * 4.0) / 1e6)
    assert report["tokens_per_second"] > 0


@pytest.mark.parametrize(("teacher", "answer"), [("pairwise", best_first), ("listwise", listed)])
def test_the_groups_are_the_same_however_many_requests_are_under_way(rows, tmp_path, teacher, answer):
    written = set()
    for concurrency in (1, 3, 50):
        out = tmp_path / str(concurrency) / "groups.jsonl"
        with StubServer(spoilt(answer, 3), seconds=0.001) as server:
            more = ["--teacher", teacher, "--concurrency", concurrency, "--max_unparsed", 1.0]
            teach.main(flags(rows, server, out, *more))
        written.add(out.read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize(
    ("teacher", "answer", "more"),
    [
        ("pairwise", best_first, []),
        ("setwise", listed, ["--answer", "generate"]),
        ("listwise", listed, ["--window_size", 2, "--step_size", 1, "--num_passes", 2]),
        ("pointwise", best_first, []),
    ],
    ids=["pairwise", "setwise", "listwise", "pointwise"],
)
def test_a_teacher_of_nonsense_fails_and_is_never_a_good_ranking(rows, tmp_path, teacher, answer, more):
    out = tmp_path / "out" / "groups.jsonl"
    with StubServer(lambda body, path: NONSENSE) as server:
        settings = flags(rows, server, out, "--teacher", teacher, *more)
        with pytest.raises(InputError, match=r"answers \(100%\) had to be repaired; --max_unparsed is 0\.1"):
            teach.main(settings)
        assert not out.exists()
        assert (out.parent / "answer_cache.sqlite").exists()
        asked = len(server.bodies)
        teach.main([*settings, "--max_unparsed", "1.0"])
        assert len(server.bodies) >= asked
    for group in read_groups(out):
        assert group.num_ranked == 0
        assert group.permutation == tuple(range(DEPTH))
        assert not group.preferences
        assert group.teacher["malformed"] == group.teacher["answers"] > 0


@pytest.mark.parametrize("every", [2, 100])
def test_some_nonsense_is_counted_and_reported(rows, tmp_path, every):
    out = tmp_path / "out" / "groups.jsonl"
    asked_badly = 0

    def reply(body, path):
        nonlocal asked_badly
        answer = spoilt(best_first, every)(body, path)
        asked_badly += answer is NONSENSE
        return answer

    with StubServer(reply) as server:
        settings = flags(rows, server, out, "--concurrency", "1")
        if every == 2:
            with pytest.raises(InputError, match="had to be repaired"):
                teach.main(settings)
        teach.main([*settings, "--max_unparsed", "1.0"])
        total = len(server.bodies)
    groups = read_groups(out)
    assert sum(group.teacher["malformed"] for group in groups) == asked_badly
    assert sum(group.teacher["answers"] for group in groups) == total == NUM_QUERIES * DEPTH * (DEPTH - 1)
    assert asked_badly > total / 4 if every == 2 else asked_badly < total / 10
    report = json.loads((out.parent / "groups.jsonl.run_config.json").read_text())["report"]
    assert report["no_label"] <= asked_badly


def test_a_log_with_missed_choices_is_replayed(rows, tmp_path):
    log, more = tmp_path / "log.jsonl", ["--max_unparsed", "1.0"]
    with StubServer(spoilt(best_first, 3)) as server:
        teach.main(flags(rows, server, tmp_path / "a.jsonl", "--record_path", log, *more))
    replay = ["--engine", "recorded", "--recorded_path", str(log), "--queries_per_round", "2", *more]
    teach.main(["--dataset_path", str(rows), "--output_path", str(tmp_path / "b" / "b.jsonl"), *replay])
    first, again = (read_groups(path) for path in (tmp_path / "a.jsonl", tmp_path / "b" / "b.jsonl"))
    for one, other in zip(first, again, strict=True):
        assert (one.permutation, one.preferences, one.num_ranked) == (
            other.permutation,
            other.preferences,
            other.num_ranked,
        )
        assert one.teacher["malformed"] == other.teacher["malformed"] > 0


def test_the_key_is_nowhere_in_what_a_run_leaves(rows, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "out" / "groups.jsonl"
    refused = (401, {}, json.dumps({"error": {"message": f"wrong key {SECRET}"}}).encode())
    with StubServer(best_first, [refused]) as server:
        settings = flags(rows, server, out, "--record_path", out.parent / "log.jsonl")
        with pytest.raises(InputError, match=r"wrong key \*\*\*") as error:
            teach.main([*settings, "--concurrency", "1"])
        assert SECRET not in str(error.value)
        teach.main(settings)
        assert set(server.keys) == {f"Bearer {SECRET}"}
    assert "openai" in caplog.text
    assert SECRET not in caplog.text + "".join(capfd.readouterr())
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {"groups.jsonl", "groups.jsonl.run_config.json", "answer_cache.sqlite", "log.jsonl"}
    assert names <= {path.name for path in left}
    for path in left:
        assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("url", ["http://user:pw-secret@host/v1", "http://host/v1?api_key=pw-secret", "host/v1"])
def test_an_address_with_a_secret_in_it_is_refused(rows, tmp_path, url):
    settings = ["--dataset_path", str(rows), "--output_path", str(tmp_path / "g.jsonl"), "--model_name_or_path", MODEL]
    with pytest.raises(InputError, match="--base_url must be") as error:
        teach.main([*settings, "--engine", "openai_compatible", "--base_url", url])
    assert "pw-secret" not in str(error.value)
    assert not (tmp_path / "g.jsonl.partial").exists()


def test_ctrl_c_ends_at_once_and_keeps_what_is_answered(rows, tmp_path):
    out = tmp_path / "out" / "groups.jsonl"
    first_queries = ("query 0", "query 1", "query 2")

    def slow(body, path):
        if not any(query in json.dumps(body) for query in first_queries):
            server.closing.wait(60)
        return best_first(body, path)

    # a shell's background jobs ignore Ctrl-C, and what they start does, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with StubServer(slow) as server:
        command = [sys.executable, "-m", "tevatron_distill.driver.teach", *flags(rows, server, out, "--concurrency", 4)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + 200  # until torch is imported, on a busy machine
            while server.under_way < 4 or len(server.bodies) < 64:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.3)
            asked = len(server.bodies)
            process.send_signal(signal.SIGINT)
            pressed = time.monotonic()
            said = ""
            while "interrupted" not in said and (line := process.stderr.readline()):
                said += line
            assert time.monotonic() - pressed < 1.0
            said += process.communicate(timeout=20)[1]
            assert "interrupted" in said
            assert time.monotonic() - pressed < 8.0  # torch takes a second to leave, and longer where others work
        finally:
            process.kill()
        assert process.returncode == 130
        assert "Traceback" not in said
    lines = (out.parent / "groups.jsonl.partial").read_text().splitlines()
    assert [json.loads(line)["query_id"] for line in lines] == ["q0", "q1"]
    with StubServer(best_first) as server:
        teach.main(flags(rows, server, out))  # another port: a server may move
        assert len(server.bodies) == NUM_QUERIES * DEPTH * (DEPTH - 1) - (asked - 4)
    assert [group.query_id for group in read_groups(out)] == [f"q{number}" for number in range(NUM_QUERIES)]


def test_a_run_whose_money_is_spent_keeps_finished_queries_and_goes_on(rows, tmp_path):
    out, whole = tmp_path / "out" / "groups.jsonl", tmp_path / "whole" / "groups.jsonl"
    prices = ["--price_per_million_input", 1e5, "--max_cost", 50, "--concurrency", 2]
    with StubServer(best_first) as server:
        teach.main(flags(rows, server, whole))
        all_asked = len(server.bodies)
        with pytest.raises(InputError, match=r"--max_cost 50 is reached.*the same command goes on"):
            teach.main(flags(rows, server, out, *prices))
        assert 50 <= len(server.bodies) - all_asked <= 52
        assert len((out.parent / "groups.jsonl.partial").read_text().splitlines()) == 2
        with pytest.raises(InputError, match="--max_cost 50"):
            teach.main(flags(rows, server, out, *prices))
        teach.main(flags(rows, server, out, *prices))
        assert len(server.bodies) == 2 * all_asked
    assert out.read_bytes() == whole.read_bytes()


def test_dropped_log_probabilities_name_the_way_out_which_works(rows, tmp_path):
    with StubServer(listed) as server:
        with pytest.raises(InputError, match="--answer generate"):
            teach.main(flags(rows, server, tmp_path / "a.jsonl", "--teacher", "setwise", "--answer", "logits"))
        assert len(server.bodies) <= 32
        teach.main(flags(rows, server, tmp_path / "b.jsonl", "--teacher", "listwise", "--answer", "generate"))
    assert read_groups(tmp_path / "b.jsonl")[0].permutation == (4, 3, 2, 1, 0)


PLANS = {
    "pairwise": (["--teacher", "pairwise"], {"questions": 10 * 6, "prompts": 2 * 10 * 6}),
    "pointwise": (["--teacher", "pointwise"], {"questions": 5 * 6, "prompts": 5 * 6}),
    "windows": (
        ["--teacher", "listwise", "--window_size", 3, "--step_size", 2],
        {"questions": 2 * 6, "prompts": 2 * 6},
    ),
    "heapsort": (
        ["--teacher", "pairwise", "--sort", "heapsort", "--top_k", 2],
        {"questions_at_least": 4 * 6, "questions_at_most": (2 + 4 + 3) * 6},
    ),
}


@pytest.mark.parametrize(("more", "expected"), PLANS.values(), ids=PLANS)
def test_a_plan_asks_nothing_and_writes_nothing(rows, tmp_path, capsys, more, expected):
    prices = ["--price_per_million_input", 2.0, "--price_per_million_output", 8.0, "--tokens_per_second", 100.0]
    before = sorted(tmp_path.rglob("*"))
    with StubServer(best_first) as server:
        teach.main(flags(rows, server, tmp_path / "new" / "groups.jsonl", *more, *prices, "--plan", "True"))
        assert not server.bodies
    assert sorted(tmp_path.rglob("*")) == before
    plan = {name: float(value) for name, value in (line.split() for line in capsys.readouterr().out.splitlines())}
    assert plan["queries"] == NUM_QUERIES
    assert expected.items() <= plan.items()
    assert plan["input_tokens"] > 0
    assert plan["hours"] == pytest.approx((plan["input_tokens"] + plan["output_tokens"]) / 100.0 / 3600, rel=1e-3)
    assert plan["cost"] == pytest.approx((plan["input_tokens"] * 2.0 + plan["output_tokens"] * 8.0) / 1e6, rel=1e-3)


@pytest.mark.parametrize("name", ["pairwise", "pointwise", "windows", "heapsort"])
def test_a_plan_comes_true(rows, tmp_path, capsys, name):
    more, expected = PLANS[name]

    def reply(body, path):
        return listed(body, path) if name == "windows" else spoken(body, path)

    def spoken(body, path):
        shown = worths_in(body)
        return best_first(body, path) if len(shown) == 2 else choice_of({"Yes": -0.1 * shown[0], "No": -1.0, "x": -5.0})

    with StubServer(reply) as server:
        teach.main(flags(rows, server, tmp_path / "groups.jsonl", *more))
        asked = len(server.bodies)
    if "prompts" in expected:
        assert asked == expected["prompts"]
    else:
        assert 2 * expected["questions_at_least"] <= asked <= 2 * expected["questions_at_most"]
