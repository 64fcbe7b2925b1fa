"""The page in headless Chromium: nothing asked for, nothing run, everything reached by keyboard, light and dark."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from chromium import Browser

from tevatron_distill.driver.report import main

pytestmark = pytest.mark.browser

NASTY = "</script><script>window.hacked = 1</script><img src=x onerror=\"window.hacked = 1\"><!-- & 'x' \u2028"
QUERIES = {"q#1&<b>": "what is <b>bold</b> & red", "q2": "second question", "q3": "third question"}
FIRST = {"q#1&<b>": "bca", "q2": "bac", "q3": "cab"}
STUDENT = {"q#1&<b>": "acb", "q2": "acb", "q3": "cab"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The student mends the first query, spoils the second, keeps the third."""
    folder = tmp_path_factory.mktemp("report")
    texts = {"a": "red apples in a basket", "b": "green pears", "c": NASTY}
    for name, orders in (("first", FIRST), ("student", STUDENT)):
        lines = [
            f"{query_id}\t{docid}\t{-place}\n"
            for query_id, order in orders.items()
            for place, docid in enumerate(order)
        ]
        (folder / f"{name}.tsv").write_text("".join(lines))
    groups = [
        {"query_id": query_id, "query": text, "permutation": [2, 0, 1], "num_ranked": 2}
        | {"passages": [{"docid": docid, "title": "", "text": texts[docid]} for docid in FIRST[query_id]]}
        for query_id, text in QUERIES.items()
    ]
    (folder / "teacher.jsonl").write_text("".join(json.dumps(group) + "\n" for group in groups))
    (folder / "qrels").write_text("q#1&<b>\t0\ta\t2\nq2\t0\tb\t1\nq3\t0\tc\t1\n")
    log = [{"loss": 1 / step, "step": step} for step in range(1, 6)]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    main(
        [
            *(
                "--run_path",
                str(folder / "first.tsv"),
                str(folder / "student.tsv"),
                "--qrels_path",
                str(folder / "qrels"),
            ),
            *("--groups_path", str(folder / "teacher.jsonl"), "--train_path", str(folder / "trainer_state.json")),
            *("--seconds_per_query", "first=0.001", "student=0.02", "teacher=2", "--measures", "RR@10", "nDCG@10"),
            *("--output_path", str(folder / "report.html"), "--title", NASTY),
        ]
    )
    return folder / "report.html"


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser"), 1000, 900) as browser:
        yield browser


@pytest.fixture
def browser(window, page):
    window.open(page)
    return window


def column(browser, name, part=".snippet"):
    return browser.texts(f'#orders section[aria-label="{name}"] {part}')


def focused(browser):
    return browser.run("return document.activeElement.innerText || document.activeElement.id")


def shows(browser, title):
    """Whether the query comes up; a link's way through the address takes a moment."""
    end = time.monotonic() + 10
    while browser.texts("#detail-title") != [title] and time.monotonic() < end:
        time.sleep(0.05)
    return browser.texts("#detail-title") == [title]


def set_value(browser, name, value):
    script = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
    browser.run(script + "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change'))", name, value)


def test_the_page_loads_alone_and_without_a_complaint(browser, page):
    assert browser.requests() == [page.absolute().as_uri()]
    assert browser.errors() == []


def test_texts_that_look_like_markup_are_shown_and_not_run(browser):
    assert browser.run("return window.hacked") is None
    assert browser.run("return document.images.length + document.querySelectorAll('script').length") == 2
    assert browser.run("return document.querySelector('h1').textContent") == NASTY
    browser.run("document.getElementById('open').click()")
    full = browser.run("return [...document.querySelectorAll('#orders .text')].map((e) => e.textContent)")
    assert full.count(NASTY) == 3  # in each of the orders
    assert browser.run("return window.hacked") is None


def test_a_script_that_got_in_would_not_run(browser):
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 2'; document.body.append(s)"
    )
    assert browser.run("return window.hacked") is None
    assert any("Content Security Policy" in error for error in browser.errors())


def test_the_orders_stand_side_by_side_with_who_moved(browser):
    assert shows(browser, QUERIES["q#1&<b>"])  # what changed most
    assert browser.texts("#orders h4") == ["first", "student", "teacher"]
    assert column(browser, "first", ".rank") == ["1", "2", "3"]
    # first: b c a; student: a c b
    assert column(browser, "first", ".move") == ["→ 3", "→ 2", "→ 1"]
    assert column(browser, "student", ".move") == ["▲ 2", "=", "▼ 2"]
    assert column(browser, "student", ".grade") == ["grade 2", "not judged", "not judged"]
    assert column(browser, "student")[0] == "red apples in a basket"
    tops = browser.run(
        "return [...document.querySelectorAll('#orders section')].map((e) => e.getBoundingClientRect().top)"
    )
    assert len(set(tops)) == 1


def test_what_a_teacher_has_not_ordered_is_told_apart(browser):
    rows = browser.texts('#orders section[aria-label="teacher"] > ol > li')
    assert [row.split("\n")[0].split()[0] for row in rows] == ["1", "2", "Not", "3"]
    assert browser.texts("#orders .tied") == ["Not ordered from here on: the teacher sorted no deeper."]


def test_values_follow_the_measure_and_the_orders_that_are_compared(browser):
    assert browser.texts("#list button")[0].split("\n")[-1] == "+0.667"  # 1 - 1/3
    set_value(browser, "before", "1")
    set_value(browser, "after", "0")
    assert "−0.667" in browser.texts("#list button")[0]
    assert column(browser, "first", ".move") == ["▲ 2", "=", "▼ 2"]


def test_queries_are_searched_filtered_and_sorted(browser):
    set_value(browser, "words", "QUESTION third")
    assert [text.split("\n")[0] for text in browser.texts("#list button")] == ["third question"]
    assert browser.texts("#found") == ["1 of 3 queries"]
    set_value(browser, "words", "")
    set_value(browser, "which", "loss")
    assert [text.split("\n")[0] for text in browser.texts("#list button")] == ["second question"]
    set_value(browser, "which", "all")
    set_value(browser, "sort", "loss")
    assert browser.texts("#list button")[0].startswith("second question")


def test_passages_are_searched_and_filtered(browser):
    set_value(browser, "passage-words", "pears (")
    assert browser.texts("#passages-found") == ["0 of 9 places match"]
    set_value(browser, "passage-words", "PEARS")
    assert column(browser, "student", ".rank") == ["3"]
    assert browser.texts("#orders .snippet mark") == ["pears"] * 3
    set_value(browser, "passage-words", "")
    set_value(browser, "passage-which", "relevant")
    assert column(browser, "student", ".rank") == ["1"]
    assert column(browser, "first", ".rank") == ["3"]


def test_everything_is_reached_by_keyboard(browser):
    browser.run("document.querySelector('#list button').focus()")
    browser.press("ArrowDown", "Enter")
    assert shows(browser, "second question")
    assert browser.run("return document.activeElement.getAttribute('aria-current')") == "true"
    assert browser.run("return location.hash") == "#query=q2"
    browser.press("End")
    assert focused(browser).startswith("third question")
    browser.press("ArrowUp", "Tab")
    assert focused(browser) == "Previous"
    browser.press("Tab", "Space")
    assert shows(browser, "third question")
    browser.run("document.querySelector('#orders summary').focus()")
    browser.press("Enter")
    assert browser.run("return document.querySelector('#orders details').open") is True
    outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def press_first(browser, key):
    """Press a key on a new page until it arrives; a window that has just come up may not have the keyboard yet."""
    end = time.monotonic() + 10
    while browser.run("return document.activeElement === document.body") and time.monotonic() < end:
        browser.press(key)
        time.sleep(0.05)


def test_the_first_tab_skips_to_the_queries(browser):
    press_first(browser, "Tab")
    assert focused(browser) == "Skip to the queries"
    browser.press("Enter")
    assert browser.run("return document.activeElement.id") == "queries"


def test_tables_sort_numbers_as_numbers_by_keyboard(browser):
    column_of = "[...document.querySelectorAll('#measures tbody tr')].map((row) => row.cells[3].innerText)"
    button = "document.querySelectorAll('#measures th button')[3]"
    browser.run(f"{button}.focus()")
    browser.press("Enter")
    assert browser.run(f"return {column_of}") == ["2000", "20", "1"]
    assert browser.run(f"return {button}.parentNode.getAttribute('aria-sort')") == "descending"
    browser.press("Enter")
    assert browser.run(f"return {column_of}") == ["1", "20", "2000"]


def test_a_link_leads_to_a_query(browser, page):
    browser.run("document.querySelector('#changes a[href^=\"#query=q2\"]').click()")
    assert shows(browser, "second question")
    browser.run(
        "scrollTo(0, 0); document.querySelector('#changes a[href^=\"#query=q2\"]').focus({ preventScroll: true })"
    )
    assert browser.run("return scrollY") == 0
    browser.press("Enter")
    assert browser.run("return scrollY") > 0  # the same link leads there again
    browser.open(page, "#query=q%231%26%3Cb%3E")
    assert shows(browser, QUERIES["q#1&<b>"])
    browser.open(page, "#query=%E0%A4%A")  # no address that can be read
    assert browser.errors() == []


def test_labels_name_every_control(browser):
    unnamed = browser.run(
        "return [...document.querySelectorAll('input, select')].filter((e) => !e.labels.length).length"
        " + [...document.querySelectorAll('button, summary')].filter((e) => !e.innerText.trim()).length"
    )
    assert unnamed == 0
    assert browser.run("return [...document.querySelectorAll('svg')].every((e) => e.getAttribute('aria-label'))")
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map((e) => Number(e.tagName[1]))")
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("width", [1000, 420])
def test_nothing_scrolls_sideways(browser, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.chrome("Emulation.setDeviceMetricsOverride", metrics)
    browser.run("document.getElementById('open').click()")
    wide = browser.run("return document.documentElement.scrollWidth")
    browser.chrome("Emulation.setDeviceMetricsOverride", {**metrics, "width": 1000})
    assert wide <= width


CONTRAST = """
const numbers = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
const light = (colour) => numbers(colour).map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = light(getComputedStyle(document.body).backgroundColor);
const contrast = (colour) => (Math.max(light(colour), ground) + 0.05) / (Math.min(light(colour), ground) + 0.05);
return [".muted", "body", "a", ".up", ".down", ".grade.relevant"].map((name) => [name, document.querySelector(name)])
  .map(([name, element]) => [name, contrast(getComputedStyle(element).color)])
  .concat([["ground", ground]]);
"""


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_can_be_read_in_both_modes(browser, mode):
    browser.chrome("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": mode}]})
    found = dict(browser.run(CONTRAST))
    browser.chrome("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
    assert (found.pop("ground") < 0.1) == (mode == "dark")
    assert min(found.values()) >= 4.5, found  # WCAG 2, AA
