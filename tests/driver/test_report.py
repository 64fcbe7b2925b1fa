"""driver.report end to end: what stands in the page, what is missing, what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tevatron_distill.driver.report import main
from tevatron_distill.schema import InputError

NASTY = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1"><!-- & \u2028 "quoted" \'x\''
WORDS = ["--run_path", "first.trec", "student.trec", "--qrels_path", "qrels", "--output_path", "report.html"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three queries; the student mends q1, spoils q2, and keeps q3."""
    monkeypatch.chdir(tmp_path)
    passages = {"a": "red apples", "b": "green pears", "c": NASTY}
    (tmp_path / "qrels").write_text("q1 0 a 2\nq2 0 b 1\nq3 0 c 1\nq3 0 missing 1\n")
    (tmp_path / "first.trec").write_text(run_of({"q1": "bca", "q2": "bac", "q3": "cab"}))
    (tmp_path / "student.trec").write_text(run_of({"q1": "acb", "q2": "acb", "q3": "cab"}))
    groups = []
    for query_id, permutation in (("q1", [2, 0, 1]), ("q2", [0, 1, 2]), ("q3", [0, 1, 2])):
        first = {"q1": "bca", "q2": "bac", "q3": "cab"}[query_id]
        rows = [{"docid": docid, "title": "", "text": passages[docid]} for docid in first]
        groups.append(
            {"query_id": query_id, "query": f"<b>{query_id}</b> & fruit", "passages": rows, "permutation": permutation}
            | {"num_ranked": 3, "teacher": {"name": "pairwise"}}
        )
    (tmp_path / "groups.jsonl").write_text("".join(json.dumps(group) + "\n" for group in groups))
    record = {"arguments": {"model_name_or_path": "tiny"}, "report": {"queries": 3, "seconds_per_query": 0.004}}
    (tmp_path / "student.trec.run_config.json").write_text(json.dumps(record))
    record = {"arguments": {"teacher": "pairwise"}, "report": {"seconds_per_query": 0.04, "asked": 30, "cached": 10}}
    (tmp_path / "groups.jsonl.run_config.json").write_text(json.dumps(record))
    (tmp_path / "student").mkdir()
    log = [{"loss": 0.5, "step": 1, "epoch": 0.5}, {"loss": 0.25, "step": 2}, {"train_loss": 0.4, "step": 2}]
    (tmp_path / "student" / "run_config.json").write_text(json.dumps({"report": {"log_history": log}}))
    return tmp_path


def run_of(orders):
    return "".join(
        f"{query_id} Q0 {docid} {rank} {10 - rank} x\n"
        for query_id, order in orders.items()
        for rank, docid in enumerate(order, start=1)
    )


class Page(HTMLParser):
    """The page's tags, its words, and its data."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.attributes, self._within = [], [], [], []
        self.scripts: list[tuple[dict, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self._within.append(tag)
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_endtag(self, tag):
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data):
        if self._within and self._within[-1] == "script":
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        elif "style" not in self._within:
            self.words.append(data)

    @property
    def data(self):
        [text] = [text for attributes, text in self.scripts if attributes.get("type") == "application/json"]
        return json.loads(text)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def report(*words):
    main([*WORDS, *words])
    return Page(Path("report.html").read_text(encoding="utf-8"))


def test_everything_stands_on_the_page(files, capsys):
    page = report("--groups_path", "groups.jsonl", "--train_path", "student", "--measures", "RR@10", "nDCG@10")
    # RR: first 1/3, 1, 1; student 1, 1/3, 1; teacher 1, 1, 1
    assert f"{(1 / 3 + 1 + 1) / 3:.4f}" in page.text
    assert "student keeps 0% of the gain of groups over first in RR@10, at 0.10 of its time a query." in page.text
    assert "student against first in RR@10 Queries: 1 gain, 1 lose, 1 stay as they are." in page.text
    assert "milliseconds a query" in page.text
    assert "loss" in page.text
    assert "25% of the answers behind groups came from its cache" in page.text  # 10 of 10 + 30
    assert "The time of first is not known" in page.text
    assert page.tags.count("svg") == 2 + 1 + 1 + 2  # measures, time, loss, gains of student and teacher
    out = capsys.readouterr().out
    assert out.splitlines()[2].split()[:2] == ["student", "0.7778"]
    assert "student against first in RR@10: of the queries 1 gain, 1 lose, 1 stay" in out
    record = json.loads(Path("report.html.run_config.json").read_text())
    assert set(record["inputs"]) == {"first.trec", "student.trec", "groups.jsonl", "qrels"}
    assert record["report"]["bytes"] == Path("report.html").stat().st_size
    written = record["report"]["results"]["first.trec"]
    assert written["mean"]["RR@10"] == pytest.approx((1 / 3 + 1 + 1) / 3)
    assert written["interval"]["RR@10"] == pytest.approx([1 / 3, 1.0])
    assert written["seconds_per_query"] is None


def test_the_query_view_holds_orders_grades_values_and_texts(files):
    data = report("--groups_path", "groups.jsonl", "--measures", "RR@10").data
    assert data["systems"] == ["first", "student", "groups"]
    assert (data["teachers"], data["focus"]) == ([2], 1)
    by_id = {query["id"]: query for query in data["queries"]}
    docids = [docid for docid, _, _ in data["passages"]]
    orders = [[docids[place] for place in order] for order in by_id["q1"]["orders"]]
    assert orders == [["b", "c", "a"], ["a", "c", "b"], ["a", "b", "c"]]
    assert by_id["q1"]["ranked"] == [None, None, None]  # the teacher has ordered all
    assert by_id["q1"]["grades"] == {str(docids.index("a")): 2}
    assert by_id["q1"]["values"] == [[round(1 / 3, 4), 1.0, 1.0]]
    assert (by_id["q3"]["missing"], by_id["q3"]["num_missing"]) == (["missing"], 1)
    assert ["c", "", NASTY] in data["passages"]
    assert len(data["passages"]) == 3  # each text once, though three queries show it
    assert data["queries"][-1]["id"] == "q3"  # those that changed stand first


def test_what_the_data_says_is_text_and_never_markup(files):
    Path("qrels").write_text(Path("qrels").read_text().replace("q3", "<script>q3"))
    page = report(
        *("--groups_path", "groups.jsonl", "--title", NASTY, "--train_path", "student"),
        *("--run_name", "<i>first</i>", '"></svg><script>', "</title><script>"),
    )
    assert page.tags.count("script") == 2  # the data and the page's own
    assert not {"img", "i", "b", "link", "iframe"} & set(page.tags)
    assert not [value for name, value in page.attributes if name.startswith("on") or name in ("src", "srcdoc")]
    assert page.data["systems"][0] == "<i>first</i>"


def test_the_page_asks_for_nothing_from_outside(files):
    page = report("--groups_path", "groups.jsonl", "--train_path", "student")
    addresses = [value for name, value in page.attributes if name in ("href", "src", "action", "xlink:href")]
    assert all(address.startswith("#") for address in addresses)
    source = Path("report.html").read_text()
    assert not re.search(r"url\(|@import|https?://|fetch\(|XMLHttp|innerHTML|eval\(", source)
    [policy] = [value for _, value in page.attributes if value and value.startswith("default-src")]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")


def test_missing_pieces_are_said(files):
    Path("student.trec.run_config.json").unlink()
    page = report()
    assert "There is no picture, as no order's time is known" in page.text
    assert "There are no curves" in page.text
    assert "3 passages have no text" in page.text
    assert "No run_config.json stands beside it." in page.text
    assert all(text == "" for _, _, text in page.data["passages"])


def test_one_run_alone_has_no_tests_and_no_gains(files):
    main(["--run_path", "first.trec", "--qrels_path", "qrels", "--output_path", "report.html"])
    page = Page(Path("report.html").read_text())
    assert "Paired tests" not in page.text
    assert "Gains and losses" not in page.text
    assert len(page.data["queries"]) == 3


def test_a_time_given_by_hand_is_taken(files, capsys):
    page = report("--seconds_per_query", "first=0.5", "student=1.25")
    assert capsys.readouterr().out.splitlines()[1].split()[-1] == "500"
    assert "1 250" in page.text or "1250" in page.text


def test_texts_come_from_candidates_or_from_a_collection(files):
    rows = [{"query_id": "q1", "query": "one", "docid": "a", "title": "T", "text": "of the rows"}]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("corpus.tsv").write_text("a\tof the collection\nb\tpears\nz\tnobody asks for it\n")
    Path("queries.tsv").write_text("q1\tother\nq2\ttwo\n")
    data = report(
        *("--dataset_path", "rows.jsonl", "--corpus_path", "corpus.tsv", "--queries_path", "queries.tsv")
    ).data
    assert ["a", "T", "of the rows"] in data["passages"]
    assert ["a", "", "of the collection"] in data["passages"]  # under the other queries
    assert ["c", "", ""] in data["passages"]
    assert not [docid for docid, _, _ in data["passages"] if docid == "z"]
    assert {query["id"]: query["text"] for query in data["queries"]} == {"q1": "one", "q2": "two", "q3": ""}


def test_the_queries_that_changed_most_are_kept(files):
    page = report("--max_queries", "2", "--depth", "1")
    assert [query["id"] for query in page.data["queries"]] == ["q1", "q2"]
    assert page.data["queries"][0]["orders"] == [[0], [1]]
    assert "2 of 3 queries are here" in page.text


def write_many(num_queries, num_passages, text):
    names = [f"q{number}" for number in range(num_queries)]
    with open("rows.jsonl", "w") as rows, open("a.trec", "w") as first, open("b.trec", "w") as second:
        for name in names:
            for place in range(num_passages):
                docid = f"{name}-{place}"
                row = {"query_id": name, "query": name, "docid": docid, "text": docid + text, "score": -place}
                rows.write(json.dumps(row) + "\n")
                first.write(f"{name} {docid} {-place}\n")
                second.write(f"{name} {docid} {place}\n")
    Path("many").write_text("".join(f"{name} 0 {name}-7 1\n" for name in names))
    return ["--run_path", "a.trec", "b.trec", "--qrels_path", "many", "--dataset_path", "rows.jsonl"]


@pytest.mark.parametrize(
    ("num_queries", "num_passages", "megabytes"),
    [(10, 10, 0.1), pytest.param(100, 100, 10.0, marks=pytest.mark.slow)],
)
def test_long_passages_are_cut_so_that_the_page_keeps_its_size(files, capsys, num_queries, num_passages, megabytes):
    text = "größer als “ASCII” </p> " * 80  # 1,920 characters, some of more than a byte, some to escape
    words = [*write_many(num_queries, num_passages, text), "--output_path", "big.html"]
    main([*words, "--max_megabytes", str(megabytes)])
    size = Path("big.html").stat().st_size
    assert 0.95 * megabytes * 1e6 < size <= megabytes * 1e6
    page = Page(Path("big.html").read_text())
    assert len(page.data["passages"]) == num_queries * num_passages
    longest = max(len(text) for _, _, text in page.data["passages"])
    assert f"Passages are cut to {longest} characters" in page.text
    assert f"passages cut to {longest} characters" in capsys.readouterr().out


def test_a_page_without_room_for_its_passages_is_refused(files):
    words = write_many(10, 10, "x" * 500)
    with pytest.raises(InputError, match="no room for 10 queries with 100 passages; lower --max_queries or --depth"):
        main([*words, "--output_path", "small.html", "--max_megabytes", "0.05"])
    assert not Path("small.html").exists()


def test_the_same_pictures_become_png_files(files):
    words = ["--groups_path", "groups.jsonl", "--train_path", "student", "--figures_dir", "figures"]
    page = report(*words)
    found = sorted(path.name for path in Path("figures").iterdir())
    assert len(found) == page.tags.count("svg")
    assert {"quality-and-time.png", "training-1.png", "gains-1.png", "gains-2.png", "measure-1.png"} <= set(found)
    assert all((Path("figures") / name).read_bytes().startswith(b"\x89PNG") for name in found)
    Path("report.html").unlink()
    with pytest.raises(InputError, match=r"measure-1\.png: the output exists already"):
        report(*words)
    assert not Path("report.html").exists()


def test_without_matplotlib_the_pictures_are_refused_and_nothing_is_written(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r'--figures_dir needs matplotlib: pip install "tevatron-distill\[plot\]"'):
        report("--figures_dir", "figures")
    assert not Path("report.html").exists()
    assert not Path("figures").exists()


def test_a_page_that_exists_stands_until_it_is_to_be_replaced(files):
    report()
    before = Path("report.html").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        report("--title", "another")
    assert Path("report.html").read_bytes() == before
    report("--overwrite_output_dir", "true")
    assert Path("report.html").read_bytes() == before  # the same input gives the same bytes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run_name", "one"], "--run_name must name all 2 runs and groups, in their order; got 1 names"),
        (["--run_name", "one", "one"], "must give names that differ"),
        (["--run_name", "one", " "], "must give names that differ and are not blank"),
        (["--seconds_per_query", "student"], "must be NAME=SECONDS with a time above 0; got 'student'"),
        (["--seconds_per_query", "student=-1"], "must be NAME=SECONDS"),
        (["--seconds_per_query", "nobody=1"], r"must name an order of the report \(first, student\); got nobody"),
        (["--measures", "nonsense"], "a measure must be"),
        (["--measures", "RR", "RR"], "--measures must name each once"),
        (["--depth", "0"], "--depth must be at least 1; got 0"),
        (["--max_queries", "0"], "--max_queries must be at least 1, or -1 for all; got 0"),
        (["--max_megabytes", "0"], "--max_megabytes must be above 0"),
        (["--train_path", "nowhere"], "a training must have logged something"),
        (["--groups_path", "first.trec"], "first.trec"),
        (["--dataset_path", "nothing.jsonl"], "must be readable"),
    ],
)
def test_what_cannot_be_shown_is_refused(files, words, message):
    with pytest.raises(InputError, match=message):
        report(*words)
    assert not Path("report.html").exists()


def test_runs_named_twice_are_refused(files):
    with pytest.raises(InputError, match="--run_path must name each once"):
        main(["--run_path", "first.trec", "first.trec", "--qrels_path", "qrels", "--output_path", "report.html"])


def test_it_starts_without_torch_and_without_matplotlib(files):
    program = (
        "import sys\nfrom tevatron_distill.driver.main import main\n"
        f"main(['report', *{WORDS!r}])\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'matplotlib') "
        "if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_page_is_of_a_query_that_a_run_lacks_too(files):
    Path("student.trec").write_text(run_of({"q1": "abc"}))
    data = report().data
    [query] = [query for query in data["queries"] if query["id"] == "q2"]
    assert query["orders"][1] == []
    assert query["values"][0][1] == 0.0
