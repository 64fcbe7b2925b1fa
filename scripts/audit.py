"""Known vulnerabilities of what is installed, by pip-audit; where its service is out of reach, a line that says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

SECONDS = 60
KNOWN: Mapping[str, str] = {}
"""Vulnerability → why it does not concern this package."""


def main() -> int:
    """Ask, print what was found, and return 1 where something is vulnerable."""
    words = ["--skip-editable", "--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "pip_audit", *words], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"pip-audit skipped: its service did not answer within {SECONDS} s")
        return 0
    if not asked.stdout.startswith("{"):
        last = (asked.stderr.strip().splitlines() or [f"it ended with status {asked.returncode}"])[-1]
        print(f"pip-audit skipped: {last[:200]}")
        return 0
    lines, status = judged(json.loads(asked.stdout)["dependencies"])
    print("\n".join(lines))
    return status


def judged(dependencies: list[dict[str, Any]]) -> tuple[list[str], int]:
    """What to say about pip-audit's answer, and the exit status.

    pip-audit itself says "No known vulnerabilities found" where it could look none of the packages up.
    """
    asked = [one for one in dependencies if "skip_reason" not in one]
    unknown = sorted(one["name"] for one in dependencies if "not found" in one.get("skip_reason", ""))
    if not asked:
        return [f"pip-audit skipped: its service knows none of the {len(unknown)} packages; is it a mirror?"], 0
    lines = [
        f"{one['name']} {one['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version'}"
        for one in asked
        for hole in one["vulns"]
        if hole["id"] not in KNOWN
    ]
    said = f"pip-audit: {len(asked)} packages looked up, {len(lines)} known vulnerabilities"
    return [*lines, said + (f"; unknown to its service: {', '.join(unknown)}" if unknown else "")], int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
