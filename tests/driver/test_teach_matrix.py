"""Every teacher with every engine that can answer it, through the driver."""

from __future__ import annotations

import json

import pytest
from conftest import WORDS, build_bert
from scripted_rows import build_lettered, cut_after, teach_flags, write_rows

from tevatron_distill.driver import teach
from tevatron_distill.formats.groups import read_groups
from tevatron_distill.formats.runs import read_run
from tevatron_distill.schema import InputError
from tevatron_distill.teachers import TEACHERS

MODELS = ["t5", "llama"]
SIZES = [4, 1, 5]
KINDS = {"choice": "logits", "text": "generate"}
SMALL = ["--top_k", "3", "--max_unparsed", "1", "--max_length", "1024"]
WINDOWS = ["--window_size", "4", "--step_size", "2"]


def ways():
    """Teacher, prompt, answer and sort of every question that the table knows."""
    for teacher, row in TEACHERS.items():
        for prompt in row.prompts:
            for answer in row.answers or ("auto",):
                for sort in row.sorts:
                    yield teacher, prompt, KINDS.get(answer, answer), sort


WAYS = sorted(ways())


def flags_of(teacher, prompt, answer, sort):
    windows = WINDOWS if teacher == "listwise" else []
    return ["--teacher", teacher, "--prompt", prompt, "--answer", answer, "--sort", sort, *windows, *SMALL]


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "rerank_input.jsonl", SIZES)


@pytest.fixture(scope="module")
def models(make_folder):
    return lambda name: make_folder(build_lettered, name)


def check_groups(path, way):
    teacher, prompt, _, sort = way
    groups = read_groups(path)
    assert [len(group.passages) for group in groups] == SIZES
    for group in groups:
        size = len(group.passages)
        exact = sort in ("heapsort", "bubblesort", "rechecked_heapsort")
        assert group.num_ranked <= (min(3, size) if exact else size)
        assert (group.scores is not None) == (sort in ("pointwise", "allpair"))
        assert (group.preferences is not None) == (teacher == "pairwise")
        known = {key: group.teacher[key] for key in ("name", "sort", "prompt")}
        assert known == {"name": teacher, "sort": sort, "prompt": prompt}


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_a_language_model_answers_every_teacher(way, rows, models, tmp_path):
    for model in MODELS:
        out = tmp_path / model / "groups.jsonl"
        teach.main(teach_flags(rows, out, *flags_of(*way), "--model_name_or_path", str(models(model))))
        check_groups(out, way)


ONE_OF_EACH_KIND = [
    ("pointwise", "monot5", "auto", "pointwise"),
    ("pointwise", "llm_rankers_qlm", "auto", "pointwise"),
    ("pairwise", "instructdistill", "auto", "allpair"),
    ("pairwise", "duot5", "auto", "heapsort"),
    ("setwise", "llm_rankers", "logits", "bubblesort"),
    ("setwise", "llm_rankers", "generate", "heapsort"),
    ("listwise", "rank_gpt", "generate", "sliding_window"),
    ("listwise", "rank_zephyr_alpha", "logits", "sliding_window"),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("way", ONE_OF_EACH_KIND, ids="-".join)
def test_a_run_that_was_cut_ends_with_the_same_bytes_and_its_log_is_replayed(way, model, rows, models, tmp_path):
    folder, log = models(model), tmp_path / "log.jsonl"
    whole, cut, again = (tmp_path / name / "groups.jsonl" for name in ("whole", "cut", "again"))
    words = [*flags_of(*way), "--model_name_or_path", str(folder), "--batch_tokens", "1500"]
    teach.main(teach_flags(rows, whole, *words, "--record_path", str(log)))
    with cut_after(1) as stopped, pytest.raises(stopped):
        teach.main(teach_flags(rows, cut, *words))
    assert not cut.exists()
    teach.main(teach_flags(rows, cut, *words))
    assert cut.read_bytes() == whole.read_bytes()
    recorded = ["--engine", "recorded", "--recorded_path", str(log)]
    teach.main(teach_flags(rows, again, *flags_of(*way), *recorded))
    assert [(group.permutation, group.scores, group.num_ranked) for group in read_groups(again)] == [
        (group.permutation, group.scores, group.num_ranked) for group in read_groups(whole)
    ]


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_the_stand_in_answers_whatever_compares_labels(way, rows, make_folder, tmp_path):
    out = tmp_path / "groups.jsonl"
    words = [*flags_of(*way), "--engine", "similarity", "--similarity_weight", "0"]
    words += ["--model_name_or_path", str(make_folder(build_bert))]
    _, prompt, answer, _ = way
    if answer == "generate" or prompt == "llm_rankers_qlm":
        with pytest.raises(InputError, match="--engine similarity gives choice"):
            teach.main(teach_flags(rows, out, *words))
        return
    teach.main(teach_flags(rows, out, *words))
    check_groups(out, way)
    for group in read_groups(out):  # the first stage alone, whose order is perfect for itself
        assert group.permutation == tuple(range(len(group.passages)))


def test_the_kind_of_answer_is_one_that_the_engine_can_give(rows, make_folder, tmp_path):
    words = ["--teacher", "listwise", "--engine", "similarity", "--model_name_or_path", str(make_folder(build_bert))]
    teach.main(teach_flags(rows, tmp_path / "a.jsonl", *words, *WINDOWS))
    teach.main(teach_flags(rows, tmp_path / "b.jsonl", *words, *WINDOWS, "--answer", "logits"))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_query_that_leaves_no_room_is_an_error_and_no_loop(models, tmp_path):
    # RankLLM shrinks the passages for ever
    rows = write_rows(tmp_path / "rows.jsonl", [3, 4])
    rows.write_text(rows.read_text().replace("what is green", "green " * 900))
    words = ["--teacher", "listwise", "--model_name_or_path", str(models("llama"))]
    with pytest.raises(InputError, match=r'query_id "q1": the prompt must fit in --max_length'):
        teach.main(teach_flags(rows, tmp_path / "groups.jsonl", *words))


@pytest.mark.parametrize("teacher", [name for name, row in TEACHERS.items() if not row.sorts])
def test_the_other_teachers_go_through_the_driver_too(teacher, rows, bert_classifier_folder, tmp_path):
    qrels, run = tmp_path / "qrels.txt", tmp_path / "b.trec"
    qrels.write_text("".join(f"q{number} 0 d{number}_0 1\n" for number in range(3)))
    run.write_text("".join(f"q{n} Q0 d{n}_{p} 1 {p} x\n" for n, size in enumerate(SIZES) for p in range(size)))
    given = {
        "qrels": ["--qrels_path", str(qrels)],
        "student": ["--model_name_or_path", str(bert_classifier_folder)],
        "merged": ["--merge_paths", str(run), str(run), "--merge", "borda"],
    }[teacher]
    out, again = tmp_path / "groups.jsonl", tmp_path / "again.jsonl"
    teach.main(teach_flags(rows, out, "--teacher", teacher, *given))
    teach.main(teach_flags(rows, again, "--teacher", teacher, *given))
    assert out.read_bytes() == again.read_bytes()
    groups = read_groups(out)
    assert {group.teacher["name"] for group in groups} == {teacher}
    if teacher == "merged":
        assert [group.permutation for group in groups] == [tuple(reversed(range(size))) for size in SIZES]
    assert (groups[0].scores is not None) == (teacher == "student")


def test_a_teachers_groups_and_runs_can_be_merged_with_others(rows, models, tmp_path):
    paths = []
    for name, prompt in (("t5", "monot5"), ("llama", "bge_gemma")):
        out, run = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.trec"
        words = ["--teacher", "pointwise", "--prompt", prompt, "--model_name_or_path", str(models(name))]
        teach.main(teach_flags(rows, out, *words, "--run_path", str(run)))
        paths += [str(out), str(run)]
    teach.main(teach_flags(rows, tmp_path / "one.jsonl", "--teacher", "merged", "--merge_paths", *paths[:2]))
    teach.main(teach_flags(rows, tmp_path / "all.jsonl", "--teacher", "merged", "--merge_paths", *paths))
    alone, merged = (read_groups(tmp_path / f"{name}.jsonl") for name in ("t5", "one"))
    assert [group.permutation for group in alone] == [group.permutation for group in merged]
    assert len(read_groups(tmp_path / "all.jsonl")) == len(SIZES)


def test_shuffled_orders_are_taught_through_the_driver_and_do_not_depend_on_the_rounds(rows, models, tmp_path):
    words = ["--teacher", "listwise", "--answer", "logits", "--prompt", "rank_zephyr_alpha", "--num_shuffles", "3"]
    words += [*WINDOWS, "--model_name_or_path", str(models("llama")), "--sort_depth", "4"]
    for size in ("1", "4"):
        teach.main(teach_flags(rows, tmp_path / f"{size}.jsonl", *words, "--queries_per_round", size))
    one, four = (read_groups(tmp_path / f"{size}.jsonl") for size in ("1", "4"))
    assert [group.permutation for group in one] == [group.permutation for group in four]
    assert [group.num_ranked for group in one] == [4, 1, 4]
    assert one[0].teacher["num_shuffles"] == 3
    teach.main(teach_flags(rows, tmp_path / "other.jsonl", *words, "--seed", "7"))
    report = json.loads((tmp_path / "other.jsonl.run_config.json").read_text())["report"]
    assert report["asked"] > 0


def write_log(path, responses):
    """RankLLM's log: a prompt and a response for each query."""
    prompts = [f"Rank by relevance to the search query: what is {word}.\n\n[1] x" for word in WORDS]
    rows = [{"prompt": prompt, "response": response} for prompt, response in zip(prompts, responses, strict=False)]
    path.write_text(json.dumps(rows))
    return ["--teacher", "listwise", "--engine", "recorded", "--recorded_path", str(path)]


def test_too_many_malformed_answers_fail_the_run_and_lose_nothing(rows, tmp_path):
    out, run = tmp_path / "groups.jsonl", tmp_path / "run.trec"
    rows = write_rows(rows, [5, 2, 4, 6])
    words = write_log(tmp_path / "log.json", ["[2] > [1]", "[2] > [1]", "sorry", "[2] > [1]"])
    words += ["--depth", "2", "--run_path", str(run)]
    for _ in range(2):  # starting it again does not make it pass
        with pytest.raises(InputError, match=r"1 of 4 answers \(25%\) had to be repaired; --max_unparsed is 0\.1"):
            teach.main(teach_flags(rows, out, *words))
    assert not out.exists()
    assert not run.exists()
    assert len((tmp_path / "groups.jsonl.partial").read_text().splitlines()) == 4
    teach.main(teach_flags(rows, out, *words, "--max_unparsed", "0.25"))
    assert [group.permutation for group in read_groups(out)] == [(1, 0), (1, 0), (0, 1), (1, 0)]
    assert len(read_run(run)) == 4


def test_a_hopeless_run_is_stopped_early(tmp_path):
    sizes = [2] * 120
    rows = write_rows(tmp_path / "many.jsonl", sizes)
    log = [
        {"query": {"qid": f"q{number}", "text": "?"}, "invocations_history": [{"prompt": "?", "response": "Error 500"}]}
        for number in range(120)
    ]
    (tmp_path / "log.json").write_text(json.dumps(log))
    words = ["--teacher", "listwise", "--engine", "recorded", "--recorded_path", str(tmp_path / "log.json")]
    with pytest.raises(InputError, match=r"51 of 51 answers \(100%\) had to be repaired"):
        teach.main(teach_flags(rows, tmp_path / "groups.jsonl", *words, "--queries_per_round", "3"))
    assert len((tmp_path / "groups.jsonl.partial").read_text().splitlines()) == 51


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--teacher pointwise --sort heapsort",
            "--sort of --teacher pointwise must be one of pointwise; got 'heapsort'",
        ),
        ("--teacher listwise --sort allpair", "--sort of --teacher listwise must be one of sliding_window"),
        ("--teacher setwise --sort sliding_window", "must be one of heapsort, bubblesort"),
        ("--teacher pairwise --prompt monot5", "--prompt of --teacher pairwise must be one of instructdistill"),
        ("--teacher pairwise --answer generate", "--answer is for --teacher setwise and listwise"),
        ("--teacher setwise --num_child 23 --depth 100", r"up to 23 passages under A\.\.W; got 24"),
        ("--teacher listwise --window_size 4 --step_size 4", r"--step_size lie in 1\.\.window_size - 1; got 4 and 4"),
        ("--teacher pointwise --num_shuffles 2", "--num_shuffles changes nothing"),
        ("--teacher qrels --qrels_path q --num_shuffles 2", "--num_shuffles is for teachers that ask an engine"),
        ("--teacher student --model_name_or_path m --sort heapsort", "--sort is for teachers that ask an engine"),
        ("--teacher merged --merge_paths a --prompt monot5", "--prompt is for teachers that ask an engine"),
        ("--teacher qrels --qrels_path q --sort_depth 5", "--sort_depth is for teachers that ask an engine"),
        ("--teacher pairwise --instruction x", "--instruction is for --prompt qwen3_reranker"),
        ("--teacher merged", "--teacher merged needs --merge_paths"),
        ("--teacher student", "--teacher student needs --model_name_or_path"),
        ("--merge_paths a b", "--merge_paths is for --teacher merged"),
        ("--engine recorded", "--engine recorded needs --recorded_path"),
        ("--teacher listwise --max_unparsed 2", r"--max_unparsed lie in 0\.\.1"),
        ("--sort_depth 0", "--sort_depth must be at least 1"),
        ("--max_questions 9", "--max_questions is for --sort rechecked_heapsort; got --sort allpair"),
        ("--teacher pointwise --sort rechecked_heapsort", "--sort of --teacher pointwise must be one of pointwise"),
        ("--sort rechecked_heapsort --num_child 9", "--num_child must be 1; got 9"),
        (
            "--teacher setwise --sort rechecked_heapsort --depth 100 --num_child 3",
            "--max_questions must be at least 85 for 100 passages, --top_k 10 and --num_child 3; got 60; more",
        ),
        ("--sort rechecked_heapsort --max_questions 0", "--max_questions must be at least 1"),
        ("--sort rechecked_heapsort --num_shuffles 2", "--num_shuffles takes from rechecked_heapsort"),
        ("--prior_run_path r --num_shuffles 2", "--num_shuffles leaves nothing of the order of --prior_run_path"),
        ("--teacher qrels --qrels_path q --prior_run_path r", "--prior_run_path is for teachers that ask an engine"),
    ],
)
def test_what_does_not_go_together_is_one_clear_error(words, message, rows, tmp_path):
    model = [] if "student" in words or "recorded" in words else ["--model_name_or_path", "m"]
    with pytest.raises(InputError, match=message):
        teach.main(teach_flags(rows, tmp_path / "groups.jsonl", *model, *words.split()))


def test_the_defaults_are_the_teachers_own(rows):
    from tevatron_distill.arguments.teach import TeachArguments

    def chosen(teacher, **keywords):
        args = TeachArguments(output_path="x", teacher=teacher, model_name_or_path="m", **keywords)
        return {
            key: getattr(args, key)
            for key in (
                *("sort", "prompt", "num_child", "window_size", "step_size", "num_passes", "max_length"),
                "max_questions",
            )
            if getattr(args, key) is not None
        }

    assert chosen("pairwise") == {"sort": "allpair", "prompt": "instructdistill", "max_length": 1024}
    assert chosen("pointwise") == {"sort": "pointwise", "prompt": "llm_rankers_yes_no", "max_length": 1024}
    assert chosen("setwise") == {"sort": "heapsort", "prompt": "llm_rankers", "num_child": 3, "max_length": 1024}
    assert chosen("listwise") == {
        "sort": "sliding_window",
        "prompt": "rank_gpt",
        "window_size": 20,
        "step_size": 10,
        "num_passes": 1,
        "max_length": 4096,
    }
    assert chosen("pairwise", sort="sliding_window")["num_passes"] == 10
    assert chosen("setwise", sort="bubblesort", num_child=9)["num_child"] == 9
    rechecked = {name: chosen(name, sort="rechecked_heapsort") for name in ("pairwise", "setwise", "listwise")}
    assert [(row["num_child"], row["max_questions"]) for row in rechecked.values()] == [(1, 400), (9, 60), (9, 60)]


def test_a_students_run_is_what_the_sort_starts_from(rows, make_folder, tmp_path):
    model = str(make_folder(build_bert))
    words = ["--teacher", "setwise", "--sort", "rechecked_heapsort", "--engine", "similarity", "--top_k", "2"]
    words += ["--similarity_weight", "0", "--model_name_or_path", model]
    teach.main(teach_flags(rows, tmp_path / "plain.jsonl", *words))
    run = tmp_path / "student.tsv"
    run.write_text("".join(f"q{i}\td{i}_{j}\t{j}\n" for i, size in enumerate(SIZES) for j in range(size)))
    teach.main(teach_flags(rows, tmp_path / "from_run.jsonl", *words, "--prior_run_path", str(run)))
    plain, from_run = (read_groups(tmp_path / f"{name}.jsonl") for name in ("plain", "from_run"))
    assert [group.passages for group in from_run] == [group.passages for group in plain]
    assert [group.permutation for group in plain] == [(0, 1, 2, 3), (0,), (0, 1, 2, 3, 4)]
    # the judge puts the same two in front; behind them stands the run's order
    assert [group.permutation for group in from_run] == [(0, 1, 3, 2), (0,), (0, 1, 4, 3, 2)]


def test_the_plan_of_a_rechecked_heap_keeps_to_its_questions(tmp_path, capsys):
    rows = write_rows(tmp_path / "rows.jsonl", [100])
    words = ["--teacher", "setwise", "--sort", "rechecked_heapsort", "--depth", "100", "--model_name_or_path", "m"]
    teach.main(teach_flags(rows, tmp_path / "groups.jsonl", *words, "--plan"))
    said = capsys.readouterr().out
    assert "questions_at_least" in said
    assert "60" in said
