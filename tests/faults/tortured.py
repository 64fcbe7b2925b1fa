"""The script torture.py as a module: commands, kills, and processes forked from one that has everything imported."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import torture

CONTEXT = torture.make_context()

__all__ = ["CONTEXT", "torture"]
