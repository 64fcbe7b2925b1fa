"""Make a small collection from the documentation strings of this Python's standard library.

Known-item search: the first paragraph of a documentation string is a query, the rest is the one passage that answers
it. Whole modules are held out for testing. Nothing is imported, only parsed, and the same Python gives the same files
on any machine.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

# Tests, and what some systems package apart from Python itself
SKIPPED = {
    "__pycache__", "dist-packages", "distutils", "ensurepip", "idlelib", "lib-dynload", "lib2to3", "pydoc_data",
    "site-packages", "test", "tests", "tkinter", "turtledemo",
}  # fmt: skip
MIN_QUERY_WORDS, MAX_QUERY_WORDS, MIN_PASSAGE_WORDS, MAX_PASSAGE_WORDS = 4, 64, 20, 300
HELD_OUT = 0.3
"""Share of the top-level modules whose queries are for testing."""


def documentation_strings(source: str) -> Iterator[tuple[str, str]]:
    """Qualified name and documentation string of a module and everything in it, in the order of the file."""

    def visit(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield name, inspect.cleandoc(text)
        for child in ast.iter_child_nodes(node):
            child_name = getattr(child, "name", None)
            yield from visit(child, f"{name}.{child_name}" if isinstance(child_name, str) else name)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in other people's strings
        yield from visit(ast.parse(source), "")


def split_item(text: str) -> tuple[str, str] | None:
    """The query and the passage of one documentation string, or None if one of them says too little."""
    first, _, rest = text.partition("\n\n")
    query, passage = first.split(), rest.split()
    if not MIN_QUERY_WORDS <= len(query) <= MAX_QUERY_WORDS or len(passage) < MIN_PASSAGE_WORDS:
        return None
    return " ".join(query), " ".join(passage[:MAX_PASSAGE_WORDS])


def items(library: Path) -> Iterator[tuple[str, str, str]]:
    """``(docid, query, passage)``, each query and each passage once; a docid starts with its top-level module."""
    seen: set[str] = set()
    for path in sorted(library.rglob("*.py")):
        place = path.relative_to(library).with_suffix("").parts
        if SKIPPED.intersection(place):
            continue
        module = ".".join(place).removesuffix(".__init__")
        for number, (name, text) in enumerate(documentation_strings(path.read_text(encoding="utf-8"))):
            item = split_item(text)
            if item and not seen.intersection(item):
                seen.update(item)
                yield f"{module}{name}:{number}", *item


def is_held_out(docid: str) -> bool:
    """Whether the item's top-level module is one for testing; a hash decides, so that it is the same everywhere."""
    module = docid.split(".")[0].split(":")[0]
    return int(hashlib.sha256(module.encode()).hexdigest()[:8], 16) / 2**32 < HELD_OUT


def write_lines(path: Path, rows: list[str]) -> None:
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output_dir", type=Path)
    folder = parser.parse_args().output_dir
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    rows = list(items(Path(sysconfig.get_paths()["stdlib"])))
    corpus = [json.dumps({"docid": docid, "title": "", "text": passage}) for docid, _, passage in rows]
    write_lines(folder / "corpus.jsonl", corpus)
    for split, held_out in (("train", False), ("test", True)):
        part = [(docid, query) for docid, query, _ in rows if is_held_out(docid) == held_out]
        queries = [json.dumps({"query_id": f"q:{docid}", "query": query}) for docid, query in part]
        write_lines(folder / f"{split}_queries.jsonl", queries)
        write_lines(folder / "qrels" / f"{split}.txt", [f"q:{docid} 0 {docid} 1" for docid, _ in part])
        print(f"{len(part)} {split} queries")
    print(f"{len(rows)} passages")


if __name__ == "__main__":
    main()
