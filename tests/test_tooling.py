"""The files around the package: tested versions, DeepSpeed's configurations, shell scripts."""

from __future__ import annotations

import importlib.metadata
import json
import runpy
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    return {requirement.name.lower().replace("_", "-"): str(requirement.specifier) for requirement in requirements}


def test_the_tested_set_pins_every_direct_requirement_inside_its_range() -> None:
    pins = pinned()
    left_out = {"bitsandbytes", "faiss-gpu-cu12", "vllm"}  # extras that the tests do not need
    for line in importlib.metadata.requires("tevatron-distill") or []:
        requirement = Requirement(line)
        name = requirement.name.lower().replace("_", "-")
        if name not in left_out:
            assert pins[name].startswith("==")
            assert requirement.specifier.contains(pins[name].removeprefix("=="))


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_deepspeed_configuration_leaves_sizes_to_the_trainer(stage: int) -> None:
    config = json.loads((ROOT / "deepspeed" / f"ds_zero{stage}_config.json").read_text(encoding="utf-8"))
    assert config["zero_optimization"]["stage"] == stage
    assert config["train_micro_batch_size_per_gpu"] == "auto"
    assert "train_batch_size" not in config  # with ZeRO-3 its check runs before the number of processes is known
    assert not {"optimizer", "scheduler"} & config.keys()  # or --optim and --lr_scheduler_type would be passed over


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").glob("*.sh")))
def test_a_shell_script_is_well_formed(script: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / "scripts" / script)], check=True, timeout=30)


def test_the_folder_of_configurations_is_no_package() -> None:
    assert sorted(path.suffix for path in (ROOT / "deepspeed").iterdir()) == [".json"] * 3


def test_an_audit_that_looked_nothing_up_is_called_skipped_and_holes_fail() -> None:
    judged = runpy.run_path(str(ROOT / "scripts" / "audit.py"))["judged"]
    unknown = {"name": "a", "skip_reason": "Dependency not found on PyPI and could not be audited: a (1)"}
    fine = {"name": "b", "version": "1", "vulns": []}
    hole = {"name": "c", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
    assert judged([unknown]) == (["pip-audit skipped: its service knows none of the 1 packages; is it a mirror?"], 0)
    lines, status = judged([unknown, fine])
    assert lines == ["pip-audit: 1 packages looked up, 0 known vulnerabilities; unknown to its service: a"]
    assert status == 0
    assert judged([fine, hole])[1] == 1
    assert judged([fine, hole])[0][0] == "c 1: CVE-1, mended in 2"
