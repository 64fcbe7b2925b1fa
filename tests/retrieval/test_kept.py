"""An index is built once, found again by what it was made of, whole or not there."""

from __future__ import annotations

import pytest

from tevatron_distill.formats.disk import lock
from tevatron_distill.retrieval.kept import LOCK, check, fingerprint, keep
from tevatron_distill.schema import InputError, Passage

MADE_OF = {"kind": "words", "passages": "abc"}


def write(folder):
    (folder / "data").write_text("index")


def never(folder):
    raise AssertionError("the index is there")


def test_an_index_is_built_once_and_then_used_again(tmp_path):
    folder = tmp_path / "deep" / "index"
    keep(folder, MADE_OF, write)
    assert (folder / "data").read_text() == "index"
    assert sorted(path.name for path in folder.iterdir()) == ["data", "index.json"]
    keep(folder, MADE_OF, never)
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


def test_an_index_of_something_else_is_refused(tmp_path):
    keep(tmp_path / "index", MADE_OF, write)
    with pytest.raises(InputError, match=r"made of the same passages; it has passages abc; name another folder"):
        keep(tmp_path / "index", {**MADE_OF, "passages": "xyz"}, never)
    with pytest.raises(InputError, match="made of the same kind and language; it has kind words, language unknown"):
        check(tmp_path / "index", {"kind": "vectors", "language": "english"})


def test_a_build_that_fails_leaves_no_index_and_the_next_one_begins_anew(tmp_path):
    def fail(folder):
        (folder / "torn").write_text("half")
        (folder / "parts").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path / "index", MADE_OF, fail)
    assert not (tmp_path / "index").exists()
    keep(tmp_path / "index", MADE_OF, write)
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["data", "index.json"]


def test_two_processes_do_not_build_the_same_index(tmp_path):
    (tmp_path / "index.partial").mkdir()
    with open(tmp_path / "index.partial" / LOCK, "wb") as other:
        lock(other, tmp_path / "index")
        with pytest.raises(InputError, match="another process is writing"):
            keep(tmp_path / "index", MADE_OF, never)


def test_a_full_or_closed_disk_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the output must be writable"):
        keep(tmp_path / "file" / "index", MADE_OF, never)


def test_a_fingerprint_sees_every_change_of_the_collection():
    collection = [Passage("a", "one", "T"), Passage("b", "two")]
    others = [
        [Passage("b", "two"), Passage("a", "one", "T")],
        [Passage("a", "one", "T")],
        [Passage("a", "T", "one"), Passage("b", "two")],
        [Passage("a", "one", "T"), Passage("b", "two ")],
        [Passage("a", "one", "T"), Passage("c", "two")],
    ]
    assert fingerprint(iter(collection)) == fingerprint(list(collection))
    assert len({fingerprint(one) for one in [collection, *others]}) == 6
