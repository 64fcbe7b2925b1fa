"""The command with all verbs, and what every driver's start is like."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from tevatron_distill.driver import common
from tevatron_distill.driver.main import VERBS, main
from tevatron_distill.schema import InputError


def test_a_verb_runs_its_driver(tmp_path):
    (tmp_path / "run").write_text("q d 1\n")
    main(["convert", "--input", str(tmp_path / "run"), "--output", str(tmp_path / "new")])
    assert (tmp_path / "new").read_text() == "q Q0 d 1 1.0 tevatron_distill\n"


def test_help_lists_every_verb(capsys):
    main(["--help"])
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in VERBS)
    main(["--version"])
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("words", [[], ["distil"]])
def test_another_word_than_a_verb_ends_with_status_two(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "must be a verb" in capsys.readouterr().err


def test_an_input_error_becomes_one_line_and_status_one(capsys):
    def driver(argv):
        raise InputError("rows.jsonl:3: broken")

    with pytest.raises(SystemExit) as caught:
        common.run_main(driver, [])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: rows.jsonl:3: broken\n"


def test_an_interruption_ends_with_the_shells_status():
    def driver(argv):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        common.run_main(driver, [])
    assert caught.value.code == 130


LEAVING = """
import atexit
import os
from torch import distributed
from tevatron_distill.driver.common import run_main

class Kept:
    def __del__(self, write=os.write):
        write(1, b"finalised")

def main(argv):
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    atexit.register(print, "exit handlers ran")
    print("done")

kept = Kept()
run_main(main)
"""


def test_processes_that_have_met_end_without_finalisation_which_gloos_threads_may_abort():
    ended = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n") == ["done", "exit handlers ran", ""]


def test_only_dataclass_instances_become_a_mapping():
    with pytest.raises(TypeError, match="dataclass instances"):
        common.as_mapping({"a": 1})


def test_a_token_of_the_hub_is_not_recorded():
    @dataclasses.dataclass
    class Arguments:
        hub_token: str = "hf_secret"
        yes_token: str = "Yes"

    assert common.as_mapping(Arguments()) == {"yes_token": "Yes"}


def test_retrieve_evaluate_and_convert_work_without_torch(tmp_path):
    (tmp_path / "corpus.tsv").write_text("d1\tred apples\nd2\tgreen apples\n")
    (tmp_path / "queries.tsv").write_text("q1\tred\n")
    (tmp_path / "qrels").write_text("q1 0 d1 1\n")
    code = (
        "import sys\n"
        "from tevatron_distill.driver.main import main\n"
        "main('retrieve --corpus_path corpus.tsv --queries_path queries.tsv --output_path run.trec "
        "--rerank_input_path rows.jsonl'.split())\n"
        "main('convert --input run.trec --output run.tsv --to tevatron'.split())\n"
        "main('evaluate --qrels_path qrels --run_path run.trec run.tsv'.split())\n"
        "print('torch' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"
    assert "1.0000" in result.stdout
