"""Java is found, or it is said what was found instead."""

from __future__ import annotations

import os

import pytest

from tevatron_distill.retrieval import RETRIEVERS, java
from tevatron_distill.schema import InputError


def installed(folder, version, modules="java.base jdk.incubator.vector", library="libjvm.so"):
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text("#!/bin/sh\n")
    (folder / "bin" / "java").chmod(0o755)
    (folder / "lib" / "server").mkdir(parents=True)
    if library:
        (folder / "lib" / "server" / library).write_text("")
    if version:
        (folder / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="{modules}"\n')
    return folder


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without any Java."""
    for name in ("JAVA_HOME", "JVM_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(java, "is_installed", lambda name: False)
    return monkeypatch


@pytest.mark.parametrize(
    ("version", "major"), [("21", 21), ("21.0.8", 21), ("25.0.2", 25), ("1.8.0_402", 8), ("26-ea", 26), ("", 0)]
)
def test_a_version_is_read_as_java_writes_it(tmp_path, version, major):
    installed(tmp_path / "jdk", version)
    assert java._describe("here", tmp_path / "jdk").major == major


def test_the_first_java_that_is_new_enough_is_taken(bare, tmp_path):
    bare.setenv("JAVA_HOME", str(installed(tmp_path / "old", "17.0.15")))
    bare.setenv("PATH", str(installed(tmp_path / "path", "21.0.8") / "bin"))
    assert [found.major for found in java.find_java()] == [17, 21]
    chosen = java.choose_java("--retriever lucene")
    assert (chosen.found, chosen.home, chosen.has_vectors) == ("java on PATH", tmp_path / "path", True)
    bare.setenv("JAVA_HOME", str(installed(tmp_path / "new", "25.0.2", modules="java.base")))
    chosen = java.choose_java("--retriever lucene")
    assert (chosen.found, chosen.has_vectors) == ("JAVA_HOME", False)


def test_a_link_on_the_path_leads_to_the_installation(bare, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(installed(tmp_path / "jdk", "21.0.1") / "bin" / "java")
    bare.setenv("PATH", str(tmp_path / "bin"))
    assert java.choose_java("--retriever lucene").home == tmp_path / "jdk"


def test_no_java_at_all_is_explained(bare):
    with pytest.raises(InputError) as refusal:
        java.choose_java("--retriever lucene")
    assert str(refusal.value) == (
        "--retriever lucene needs Java 21 or newer; got no Java: JAVA_HOME is not set, no java is on PATH; "
        'pip install "tevatron-distill[jdk]" brings one, or set JAVA_HOME to one that is installed'
    )


def test_java_that_is_not_fit_is_named(bare, tmp_path):
    bare.setenv("JAVA_HOME", str(installed(tmp_path / "old", "17.0.15")))
    bare.setenv("PATH", str(installed(tmp_path / "headless", "21.0.8", library="") / "bin"))
    with pytest.raises(InputError) as refusal:
        java.choose_java("--retriever lucene")
    assert f"got JAVA_HOME: Java 17.0.15 in {tmp_path / 'old'}; " in str(refusal.value)
    assert f"java on PATH: Java 21.0.8 in {tmp_path / 'headless'}, without a libjvm" in str(refusal.value)
    bare.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"JAVA_HOME: of unknown version in .*nowhere, without a libjvm"):
        java.choose_java("--retriever lucene")


@pytest.mark.parametrize("fails", [False, True])
def test_the_environment_is_put_back_whatever_happens(monkeypatch, fails):
    monkeypatch.setenv("JAVA_HOME", "/theirs")
    monkeypatch.setenv("JVM_PATH", "/theirs/libjvm.so")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    before = dict(os.environ)
    seen = []
    try:
        with java.environment(JAVA_HOME="/ours", JVM_PATH=None, OPENAI_API_KEY="unused"):
            seen = [os.environ.get(name) for name in ("JAVA_HOME", "JVM_PATH", "OPENAI_API_KEY")]
            if fails:
                raise InputError("in between")
    except InputError:
        assert fails
    assert seen == ["/ours", None, "unused"]
    assert dict(os.environ) == before


def test_a_missing_pyserini_names_the_flag_and_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("tevatron_distill.extras.is_installed", lambda name: False)
    row = RETRIEVERS["lucene"]
    settings = {"language": "english", "k1": 0.9, "b": 0.4, "index": None, "threads": 0, "impact_encoder": None}
    expansion = {"rm3": False, "fb_terms": 10, "fb_docs": 10, "original_query_weight": 0.5}
    with pytest.raises(InputError, match=r'--retriever lucene needs pyserini: pip install "tevatron-distill\[pyserini'):
        row.build(list, tmp_path, **settings, **expansion)
    with pytest.raises(InputError, match=r"reads a --language of arabic, bengali, .*; got 'latin'"):
        row.build(list, tmp_path, **{**settings, "language": "latin"}, **expansion)
