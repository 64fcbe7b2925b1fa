"""Logs of prompts and responses as engines: RankLLM's, its results' history, and our own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tevatron_distill.engines import AnswerCache, HFEngine, RecordedEngine, Request, SimilarityEngine
from tevatron_distill.engines.recorder import Recorder
from tevatron_distill.formats import load_candidates
from tevatron_distill.prompts import LIST_PROMPTS, PAIR_PROMPTS, POINT_PROMPTS
from tevatron_distill.schema import Candidates, InputError, Passage

LIST, PAIR = LIST_PROMPTS["rank_vicuna"], PAIR_PROMPTS["instructdistill"]
FIRST_STAGES = ["BM25", "BM25_RM3", "D_BERT_KD_TASB", "OPEN_AI_ADA2", "SPLADE_P_P_ENSEMBLE_DISTIL"]


def candidates_of(query_id, query, num_passages=4):
    return Candidates(
        query_id, query, tuple(Passage(f"d{n}", f"words {n}") for n in range(num_passages)), (0.0,) * num_passages
    )


def ask(positions, candidates, prompt=LIST):
    return Request(prompt, candidates, positions, tuple(prompt.passage_text(candidates.passages[n]) for n in positions))


def prompt_about(query, marker="relevance to the search query"):
    return f"SYSTEM. USER: Rank the passages based on their {marker}: {query}.\n\n[1] one\nSearch Query: {query}.\nRank"


def write_rank_llm(path, rows):
    """As RankLLM writes it: an array without its brackets, indented."""
    path.write_text("".join(json.dumps({"prompt": p, "response": r}, indent=4) + ", \n" for p, r in rows))
    return str(path)


CATS, DOGS = candidates_of("q1", "what is a cat?"), candidates_of("q2", "Dogs  of war [12]")
ROWS = [
    (prompt_about("what is a cat?"), "[2] > [1]"),
    (prompt_about("dogs of war (12)"), "[1] > [2]"),
    (prompt_about("what is a cat?"), "[3] > [1]"),
]


def test_a_log_is_read_by_query_and_the_order_of_its_calls(tmp_path):
    engine = RecordedEngine(write_rank_llm(tmp_path / "log.json", ROWS))
    assert engine.answers == {"text"}
    engine.prepare([CATS, DOGS], LIST, 2)
    assert engine.answer([ask((2, 3), CATS), ask((2, 3), DOGS), ask((0, 1), CATS)]) == [
        "[2] > [1]",
        "[1] > [2]",
        "[3] > [1]",
    ]


@pytest.mark.parametrize("as_written", ["array", "lines", "messages", "rank_gpt"])
def test_other_ways_of_writing_a_log_say_the_same(tmp_path, as_written):
    path = tmp_path / "log.json"
    rows = [{"prompt": prompt, "response": response, "input_token_count": 9} for prompt, response in ROWS]
    if as_written == "messages":
        rows = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    if as_written == "rank_gpt":
        rows = [{**row, "prompt": row["prompt"].replace("the search query", "query")} for row in rows]
    lines = as_written == "lines"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n" if lines else json.dumps(rows, indent=1))
    assert RecordedEngine(str(path)).answer([ask((2, 3), CATS), ask((0, 1), CATS)]) == ["[2] > [1]", "[3] > [1]"]


@pytest.mark.parametrize("lines", [True, False])
def test_results_with_their_history_are_read_by_qid(tmp_path, lines):
    rows = [
        {
            "query": {"qid": 7, "text": "in other words"},
            "candidates": [],
            "invocations_history": [{"prompt": "any", "response": "[1]"}, {"prompt": "any", "response": "[2]"}],
        },
        {"query": {"text": "what is a cat"}, "invocations_history": [{"prompt": "any", "response": "[3]"}]},
    ]
    (tmp_path / "r.json").write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=2))
    engine = RecordedEngine(str(tmp_path / "r.json"))
    seven = candidates_of("7", "words")
    assert engine.answer([ask((2, 3), seven), ask((0, 1), seven)]) == ["[1]", "[2]"]


def test_a_log_by_query_id_alone_is_read_in_the_order_of_its_calls(tmp_path):
    rows = [{"query_id": "q1", "response": "[2]"}, {"query_id": "q2", "response": "[1]"}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[1]]))
    engine = RecordedEngine(str(tmp_path / "log.jsonl"))
    engine.prepare([CATS, DOGS], LIST, 2)
    assert engine.answer([ask((2, 3), DOGS), ask((2, 3), CATS), ask((0, 1), DOGS)]) == ["[1]", "[2]", "[1]"]


def test_several_files_are_one_log_in_the_order_of_their_names(tmp_path):
    write_rank_llm(tmp_path / "b.json", ROWS[2:])
    write_rank_llm(tmp_path / "a.json", ROWS[:2])
    engine = RecordedEngine(str(tmp_path / "*.json"))
    assert engine.answer([ask((2, 3), CATS), ask((0, 1), CATS)]) == ["[2] > [1]", "[3] > [1]"]
    with pytest.raises(InputError, match="no file matches"):
        RecordedEngine(str(tmp_path / "*.log"))


@pytest.mark.parametrize("asked", ["What is a cat", "what is a  CAT?", "what is a cat?.", "what is â€™a cat?"])
def test_a_query_is_found_however_it_was_cleaned(tmp_path, asked):
    engine = RecordedEngine(write_rank_llm(tmp_path / "log.json", ROWS))
    assert engine.answer([ask((2, 3), candidates_of("any", asked))]) == ["[2] > [1]"]


def test_a_query_in_another_script_is_not_taken_for_its_neighbour(tmp_path):
    log = write_rank_llm(tmp_path / "log.json", [(prompt_about("猫是什么"), "[1]")])
    assert RecordedEngine(log).answer([ask((0, 1), candidates_of("q", "猫是什么"))]) == ["[1]"]
    with pytest.raises(InputError, match="no answer to this question"):
        RecordedEngine(log).answer([ask((0, 1), candidates_of("q", "狗是什么"))])


def test_a_query_that_the_log_does_not_know_is_refused_before_anything_is_asked(tmp_path):
    engine = RecordedEngine(write_rank_llm(tmp_path / "log.json", ROWS))
    with pytest.raises(InputError, match=r'no answer for 1 of 2 queries, first for query_id "q3" \(.birds.\)'):
        engine.prepare([CATS, candidates_of("q3", "birds")], LIST, 2)


def test_a_question_beyond_the_log_is_refused(tmp_path):
    engine = RecordedEngine(write_rank_llm(tmp_path / "log.json", ROWS))
    engine.answer([ask((2, 3), CATS), ask((1, 2), CATS)])
    with pytest.raises(InputError, match=r'only 2 answers for query_id "q1" .*ask as it was recorded'):
        engine.answer([ask((0, 1), CATS)])


def test_two_queries_of_the_same_words_cannot_be_told_apart(tmp_path):
    engine = RecordedEngine(write_rank_llm(tmp_path / "log.json", ROWS))
    with pytest.raises(InputError, match='query_ids "q1" and "q9" ask the same words'):
        engine.prepare([CATS, replace(CATS, query_id="q9")], LIST, 2)


def test_a_log_of_texts_gives_no_logits(tmp_path):
    engine = RecordedEngine(write_rank_llm(tmp_path / "log.json", ROWS))
    with pytest.raises(InputError, match=r"recorded .* gives text; --prompt instructdistill asks for choice, which"):
        engine.prepare([CATS], PAIR, 2)


def test_a_log_goes_on_behind_the_answers_that_the_cache_has(tmp_path):
    log = write_rank_llm(tmp_path / "log.json", ROWS)
    with AnswerCache(tmp_path / "cache.sqlite") as cache:
        first = cache.ask(RecordedEngine(log), [ask((2, 3), CATS), ask((2, 3), DOGS)])
    with AnswerCache(tmp_path / "cache.sqlite") as cache:
        engine = RecordedEngine(log)
        assert cache.ask(engine, [ask((2, 3), CATS), ask((2, 3), DOGS)]) == first
        assert cache.ask(engine, [ask((2, 3), CATS)]) == ["[3] > [1]"]  # the same question, asked a second time
        assert (cache.num_cached, cache.num_asked) == (2, 1)


def test_another_log_is_another_engine(tmp_path):
    one, other = write_rank_llm(tmp_path / "a.json", ROWS), write_rank_llm(tmp_path / "b.json", ROWS[:2])
    assert RecordedEngine(one).identity == RecordedEngine(one).identity != RecordedEngine(other).identity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{\n"prompt": "relevance to query: a.\\n\\n", "response": "[1]"\n},\n{\n"prompt": "rel',
            r"log.json:4: .*torn",
        ),
        ('{\n"prompt": "no query here",\n"response": "[1]"\n}', r"log.json:1: the prompt must name its query"),
        ('{\n"question": 1\n}', r"log.json:1: a log's row has prompt and response .*got question"),
        ('{"prompt": "relevance to query: a.\\n\\n", "response": [1]}', "log.json:1: response must be text"),
        ('{"query_id": "q", "docids": [], "kind": "text", "prompt_name": "p"}', "log.json:1: response must"),
        ('{"query_id": "q1", "response": "[2]", "docids"', "log.json:1: the log must hold JSON objects"),
        ('{"docids": []}\n{"query_id": "q"', r"log.json:1: prompt_name must be text"),
        ("words\n", "log.json:1: the log must hold JSON objects"),
        ('"words"', "log.json:1: the log must hold JSON objects"),
        ("", "a log must hold answers; found none"),
    ],
)
def test_a_broken_log_is_refused_with_its_place(tmp_path, text, message):
    (tmp_path / "log.json").write_text(text)
    with pytest.raises(InputError, match=message):
        RecordedEngine(str(tmp_path / "log.json"))


def test_a_log_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="must be readable"):
        RecordedEngine(str(tmp_path / "log.json"))


POINT, LIKELIHOOD = POINT_PROMPTS["llm_rankers_yes_no"], POINT_PROMPTS["llm_rankers_qlm"]
ROUND = [
    ask((0, 1), CATS),
    ask((1, 0, 2), CATS),
    ask((0, 1), DOGS),
    ask((3,), CATS, POINT),
    ask((3,), DOGS, LIKELIHOOD),
]


def test_what_is_recorded_is_replayed_in_any_order(tmp_path, t5_folder):
    with AnswerCache(tmp_path / "cache.sqlite", record_path=tmp_path / "log.jsonl") as cache:
        answers = cache.ask(HFEngine(str(t5_folder)), [*ROUND, ROUND[0]])
    engine = RecordedEngine(str(tmp_path / "log.jsonl"))
    assert engine.answers == {"text", "choice", "likelihood"}
    for prompt in (LIST, POINT, LIKELIHOOD):
        engine.prepare([CATS, DOGS], prompt, 1)
    assert engine.answer(ROUND[::-1]) == answers[:-1][::-1]
    assert engine.answer(ROUND) == answers[:-1]
    with pytest.raises(InputError, match="no answer to this question"):
        engine.answer([ask((2, 3), CATS)])


def test_a_log_says_who_was_asked_what_about_which_passages(tmp_path, bert_folder):
    candidates = replace(CATS, scores=(4.0, 3.0, 2.0, 1.0))
    with AnswerCache(tmp_path / "cache.sqlite", record_path=tmp_path / "log.jsonl") as cache:
        [answer] = cache.ask(SimilarityEngine(str(bert_folder)), [ask((2, 0), candidates, PAIR)])
    [row] = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (row["query_id"], row["query"], row["docids"]) == ("q1", "what is a cat?", ["d2", "d0"])
    assert (row["positions"], row["kind"], row["prompt_name"]) == ([2, 0], "choice", "instructdistill")
    assert row["model"] == str(bert_folder)
    assert tuple(row["response"]) == answer


def test_a_run_that_was_cut_leaves_the_log_of_one_that_was_not(tmp_path, t5_folder):
    def teach(name, rounds):
        with AnswerCache(tmp_path / f"{name}.sqlite", record_path=tmp_path / f"{name}.jsonl") as cache:
            for requests in rounds:
                cache.ask(HFEngine(str(t5_folder)), requests)

    rounds = [ROUND[:2], ROUND[2:]]
    teach("whole", rounds)
    teach("cut", rounds[:1])
    with open(tmp_path / "cut.jsonl", "a") as file:
        file.write('{"query_id": "q1", "que')
    teach("cut", rounds)
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_answers_that_the_cache_knew_are_recorded_too(tmp_path, t5_folder):
    with AnswerCache(tmp_path / "cache.sqlite") as cache:
        cache.ask(HFEngine(str(t5_folder)), ROUND)
    with AnswerCache(tmp_path / "cache.sqlite", record_path=tmp_path / "log.jsonl") as cache:
        cache.ask(HFEngine(str(t5_folder)), ROUND)
        assert cache.num_asked == 0
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(ROUND)


def test_one_question_with_two_answers_is_refused(tmp_path, t5_folder):
    with AnswerCache(tmp_path / "cache.sqlite", record_path=tmp_path / "log.jsonl") as cache:
        cache.ask(HFEngine(str(t5_folder)), ROUND[3:4])
    [line] = (tmp_path / "log.jsonl").read_text().splitlines()
    row = {**json.loads(line), "model": "another", "response": [0.0, 0.0]}
    (tmp_path / "log.jsonl").write_text(f"{line}\n{json.dumps(row)}\n")
    with pytest.raises(InputError, match=r"log.jsonl:2: .* got another answer; .* one model and one teacher at a time"):
        RecordedEngine(str(tmp_path / "log.jsonl"))


def test_a_file_of_something_else_is_not_written_over(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"query_id": "q", "text": "a passage"}\n')
    with pytest.raises(InputError, match=r"log.jsonl:1: docids must be a list"):
        Recorder(tmp_path / "log.jsonl")
    assert (tmp_path / "log.jsonl").read_text() == '{"query_id": "q", "text": "a passage"}\n'
    (tmp_path / "notes.txt").write_text("no line ends here")
    with pytest.raises(InputError, match="this is no log of questions"):
        Recorder(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "no line ends here"
    with pytest.raises(InputError, match="the log must be writable"):
        Recorder(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("first_stage", FIRST_STAGES)
def test_the_recorded_answers_of_rank_vicuna_are_found_for_all_queries(data_dir, first_stage):
    folder = data_dir / "rank_llm"
    candidates = load_candidates(folder / "retrieve_results" / first_stage / "retrieve_results_dl20.json")
    candidates = [entry.top(20) for entry in candidates]
    engine = RecordedEngine(str(folder / "prompts_and_responses" / first_stage / "*.json"))
    engine.prepare(candidates, LIST, 20)
    answers = engine.answer([ask(tuple(range(20)), entry) for entry in candidates])
    runs = {}
    [path] = (folder / "rerank_results" / first_stage).glob("*_4096_20_*.txt")
    for line in path.read_text().splitlines():
        query_id, _, docid, *_ = line.split()
        runs.setdefault(query_id, []).append(docid)
    exact = 0
    for entry, answer in zip(candidates, answers, strict=True):
        order = LIST.parse(answer, 20).order
        exact += [entry.passages[position].docid for position in order] == runs[entry.query_id][:20]
    assert exact == len(candidates) == 54
