"""The table of what is compared with what says the truth."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from methods import METHODS, OWN, table

from tevatron_distill.losses import LOSSES
from tevatron_distill.sorting import SORTS
from tevatron_distill.students import STUDENTS
from tevatron_distill.teachers import TEACHERS

TESTS = Path(__file__).parents[1]


@cache
def names_in(path):
    """Names of a file's test functions, those of a class behind its name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [(f"{node.name}::", node.body) for node in tree.body if isinstance(node, ast.ClassDef)]
    return {
        prefix + node.name
        for prefix, body in (("", tree.body), *classes)
        for node in body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_test_that_is_named_exists(method):
    for named in method.tests:
        path, _, name = named.partition("::")
        assert name in names_in(TESTS / path), named


def test_every_test_of_this_folder_is_named():
    named = {test for method in METHODS for test in method.tests}
    here = sorted(Path(__file__).parent.glob("test_*.py"))
    found = {
        f"parity/{path.name}::{name}" for path in here for name in names_in(path) if path.name != "test_methods.py"
    }
    assert found <= named


def test_every_loss_student_teacher_and_sort_is_compared_or_ours_alone():
    tables = {"loss": LOSSES, "student": STUDENTS, "teacher": TEACHERS, "sort": SORTS}
    everything = {f"{kind} {name}" for kind, rows in tables.items() for name in rows}
    covered = {key for method in METHODS for key in method.covers}
    assert covered | set(OWN) == everything
    assert not covered & set(OWN)


def test_the_table_has_a_line_for_each_method():
    lines = table().splitlines()
    assert len(lines) == 2 + len(METHODS)
    assert {line.count("|") for line in lines} == {5}
