"""Vectors on disk: whole blocks survive a kill, and the end is the same bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tevatron_distill.retrieval import vectors as module
from tevatron_distill.retrieval.vectors import read_vectors, write_vectors
from tevatron_distill.schema import InputError, Passage

PASSAGES = [Passage(f"d{number}", f"text {number}") for number in range(10)]
VALUES = np.arange(30, dtype=np.float32).reshape(10, 3) / 8


class Killed(BaseException):
    """What no handler of errors catches."""


def encoder(calls, die_at=None):
    def encode(block):
        if len(calls) == die_at:
            raise Killed
        calls.append([passage.docid for passage in block])
        return VALUES[[int(passage.docid[1:]) for passage in block]]

    return encode


@pytest.fixture(autouse=True)
def blocks_of_four(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4)


def test_vectors_are_written_in_blocks_and_read_by_memory_map(tmp_path):
    calls = []
    write_vectors(tmp_path, PASSAGES, 3, encoder(calls))
    assert [len(block) for block in calls] == [4, 4, 2]
    vectors = read_vectors(tmp_path, 10, 3)
    assert isinstance(vectors, np.memmap)
    assert (vectors == VALUES.astype(np.float16)).all()
    assert json.loads((tmp_path / "docids.json").read_text()) == [passage.docid for passage in PASSAGES]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docids.json", "vectors.npy"]


@pytest.mark.parametrize("die_at", [0, 1, 2])
@pytest.mark.parametrize("torn", [b"", b"\1\2\3", b"\0" * 23])
def test_a_killed_run_is_gone_on_with_behind_its_last_whole_block(die_at, torn, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir(), part.mkdir()
    write_vectors(whole, PASSAGES, 3, encoder([]))
    with pytest.raises(Killed):
        write_vectors(part, PASSAGES, 3, encoder([], die_at))
    with open(part / "vectors.npy.partial", "ab") as file:
        file.write(torn)
    calls = []
    write_vectors(part, PASSAGES, 3, encoder(calls))
    assert len(calls) == 3 - die_at
    assert (part / "vectors.npy").read_bytes() == (whole / "vectors.npy").read_bytes()


@pytest.mark.parametrize("value", [1e5, np.nan, np.inf])
def test_a_vector_beyond_float16_is_refused_with_its_docid(value, tmp_path):
    def encode(block):
        values = np.ones((len(block), 3), dtype=np.float32)
        values[1, 2] = value
        return values

    with pytest.raises(InputError, match=r'docid "d1": a vector must be finite and fit into float16; .*--normalize'):
        write_vectors(tmp_path, PASSAGES, 3, encode)


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_a_file_that_is_no_array_of_vectors_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "vectors.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"vectors\.npy: must be an array"):
        read_vectors(tmp_path, 10, 3)


def test_an_array_of_another_shape_is_refused(tmp_path):
    write_vectors(tmp_path, PASSAGES, 3, encoder([]))
    with pytest.raises(InputError, match=r"must be float16 \[10, 4\]; got float16 \[10, 3\]"):
        read_vectors(tmp_path, 10, 4)
