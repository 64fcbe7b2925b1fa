"""The verb that says what is here: it looks at everything, promises nothing, and shows no secret."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tevatron_distill.driver import doctor
from tevatron_distill.extras import PACKAGES
from tevatron_distill.retrieval.java import Java

GIB = 1 << 30


def found(section):
    """``{name: finding}`` of a section."""
    return {finding.name: finding for finding in section}


@pytest.fixture
def without(monkeypatch):
    """Hides distributions."""

    def hide(*names):
        real = importlib.metadata.version

        def version(name):
            if name in names:
                raise importlib.metadata.PackageNotFoundError(name)
            return real(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

    return hide


def test_it_ends_well_where_the_core_works(capsys):
    doctor.main([])
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[-1] == "the core works"
    assert [line for line in lines if line and not line.startswith(" ")][:2] == ["versions", "devices"]
    starts = {line.index(line.split()[1]) for line in lines if line.startswith("  ")}
    assert len(starts) == 1  # all names stand in one column


def test_json_holds_the_same_as_the_table(capsys):
    doctor.main(["--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["works"] is True
    assert said["versions"]["torch"]["value"] == importlib.metadata.version("torch")
    assert said["extras"].keys() == set(importlib.metadata.metadata("tevatron-distill").get_all("Provides-Extra"))


def test_a_core_package_that_is_missing_ends_it_with_status_one_and_the_command(without, capsys):
    without("scipy")
    with pytest.raises(SystemExit) as caught:
        doctor.main([])
    assert caught.value.code == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "the core does not work: scipy"
    assert re.search(r'not installed  \(needs (>=[\d.]+): pip install "scipy\1"\)', out)


def test_a_version_outside_the_range_is_wrong_and_one_that_was_not_tested_is_noted(monkeypatch):
    monkeypatch.setattr(doctor, "version_of", lambda name: {"tqdm": "1.0", "numpy": "99.0"}.get(name, "2.0"))
    monkeypatch.setattr(doctor, "pinned_versions", lambda: {"numpy": "2.4.6"})
    versions = found(doctor.versions())
    assert (versions["tqdm"].state, versions["tqdm"].advice[:12]) == ("wrong", "needs >=4.66")
    assert (versions["numpy"].state, versions["numpy"].advice) == ("note", "tested with 2.4.6")


def test_the_pinned_versions_are_those_of_the_constraints():
    tested = doctor.pinned_versions()
    assert tested["transformers"].startswith("5.")
    assert "pyyaml" in tested


@pytest.mark.parametrize("extra", ["qlora", "vllm"])
def test_an_extra_that_is_missing_comes_with_its_command(extra, without):
    without("bitsandbytes", "vllm")
    row = found(doctor.extras())[extra]
    assert row.state == "missing"
    assert row.advice.startswith(f'pip install "tevatron-distill[{extra}]"')


def test_a_package_by_another_distribution_counts(without, monkeypatch):
    without("faiss-cpu")
    monkeypatch.setitem(sys.modules, "faiss", ModuleType("faiss"))
    assert found(doctor.extras())["faiss"].state == "ok"
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert found(doctor.extras())["faiss"].state == "missing"


def test_a_folder_with_a_librarys_name_is_told_from_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(PACKAGES, "no_such_library", PACKAGES["deepspeed"])
    assert "no_such_library" not in found(doctor.folders())
    (tmp_path / "no_such_library").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    row = found(doctor.folders())["no_such_library"]
    assert (row.state, str(tmp_path) in row.value) == ("note", True)


def test_the_token_is_never_shown(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    doctor.main(["--json"])
    out = capsys.readouterr().out
    assert json.loads(out)["Hugging Face"]["token"]["value"] == "present"
    assert "hf_secret" not in out


def test_offline_and_a_folder_that_cannot_be_written_are_noted(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    hub = found(doctor.hub())
    assert (hub["offline"].state, hub["offline"].value[:14]) == ("note", "HF_HUB_OFFLINE")
    assert (hub["cache"].state, "HF_HOME" in hub["cache"].advice) == ("note", True)


def fake_torch(*, gpus=(), cuda="13.0", mps=False):
    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=lambda: bool(gpus),
            device_count=lambda: len(gpus),
            mem_get_info=lambda index: (gpus[index][1] // 2, gpus[index][1]),
            get_device_capability=lambda index: gpus[index][2],
            get_device_name=lambda index: gpus[index][0],
        ),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
        version=SimpleNamespace(cuda=cuda, hip=None),
    )


def test_each_gpu_is_shown_with_its_memory_and_whether_it_has_bfloat16():
    gpus = found(doctor.gpus(fake_torch(gpus=[("A100", 80 * GIB, (8, 0)), ("T4", 16 * GIB, (7, 5))])))
    assert gpus["cuda:0"].value == "A100, 80 GiB, 40 GiB free, bfloat16"
    assert gpus["cuda:1"].value == "T4, 16 GiB, 8 GiB free, float16, no bfloat16"


@pytest.mark.parametrize(
    ("torch", "said"),
    [
        (fake_torch(), "built for CUDA 13.0 and sees none"),
        (fake_torch(cuda=None), "computes on the CPU alone"),
        (fake_torch(cuda=None, mps=True), "Apple GPU"),
    ],
    ids=["no driver", "CPU build", "Apple"],
)
def test_why_there_is_no_cuda_device_is_said(torch, said):
    [row] = doctor.gpus(torch)
    assert said in row.value


def test_a_torch_that_cannot_be_imported_is_wrong(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert found(doctor.devices())["torch"].state == "wrong"


@pytest.mark.parametrize(
    ("version", "library", "state", "names"),
    [
        ("21.0.8", True, "ok", 1),
        ("17.0.15", True, "note", 2),
        ("25", False, "note", 2),
    ],
)
def test_a_java_is_fit_or_said_why_not(version, library, state, names, monkeypatch):
    machine = Java("JAVA_HOME", Path("/java"), version, True, library)
    monkeypatch.setattr(doctor, "find_java", lambda: [machine])
    rows = found(doctor.java())
    assert (rows["JAVA_HOME"].state, len(rows)) == (state, names)
    if names > 1:
        assert 'pip install "tevatron-distill[jdk]"' in rows["Java 21"].advice
