"""The house of the package: every module imports only from floors below its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tevatron_distill.extras import PACKAGES

PACKAGE = Path(__file__).parent.parent / "tevatron_distill"

FLOORS = [
    {"schema"},
    {"permutation", "memory", "sharing", "plackett_luce", "extras", "progress"},
    {"formats", "sorting", "prompts", "metrics", "losses", "pair_sampling", "loading"},
    {"layouts", "candidate_metrics"},
    {"batching"},
    {"shared_prefix", "cross_attention"},
    {"engines", "retrieval"},
    {"dataset", "collator", "students"},
    {"reranker"},
    {"teachers"},
    {"arguments"},
    {"training_arguments"},
    {"trainer", "report", "adapters"},
    {"export"},
    {"driver"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "tevatron_distill" and len(part) > 1}


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_floors_below(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in FLOOR_OF, f"{room} has no floor; give it one in FLOORS"
    above = {other for other in imported_rooms(path) - {room} if FLOOR_OF[other] >= FLOOR_OF[room]}
    assert not above, f"{room} (floor {FLOOR_OF[room]}) imports {above}"


def test_only_named_modules_import_inside_a_function():
    optional = set(PACKAGES)
    # what drivers without a model must start without
    heavy = {
        "candidate_metrics.py": "scipy",
        "formats/hub.py": "datasets",
        "metrics.py": "scipy",
        "sharing.py": "torch",
    }
    for path in MODULES:
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                for name in names:
                    allowed = optional | {heavy.get(path.relative_to(PACKAGE).as_posix())}
                    assert name.split(".")[0] in allowed, f"{path.name}: {name} inside {function.name}"
