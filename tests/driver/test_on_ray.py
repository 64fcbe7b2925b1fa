"""A local Ray with two actors ends with the bytes of one process."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import WORDS

from tevatron_distill.arguments.share import ShareArguments
from tevatron_distill.driver import on_ray, rerank, teach
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates, InputError, Passage

try:
    importlib.metadata.version("ray")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("pip install ray[data] to run these tests", allow_module_level=True)

pytestmark = [pytest.mark.distributed, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster():
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    yield
    ray.shutdown()


@pytest.fixture
def rows(tmp_path) -> Path:
    path = tmp_path / "rows.jsonl"
    lists = []
    for number in range(12):
        size = 2 + number % 4
        passages = tuple(Passage(f"d{place}", " ".join(WORDS[place : place + 3])) for place in range(size))
        lists.append(Candidates(f"q{number}", f"what is {WORDS[number % 14]}", passages, tuple(range(size, 0, -1))))
    path.write_text("".join(f"{line}\n" for line in write_candidates_lines(lists)))
    return path


@pytest.fixture
def command(rows, tmp_path, bert_classifier_folder, monkeypatch):
    monkeypatch.setattr(rerank, "BLOCK_PAIRS", 8)

    def build(name: str, *more: str) -> list[str]:
        return [
            *("--model_name_or_path", str(bert_classifier_folder), "--dataset_path", str(rows), "--use_cpu"),
            *("--rerank_output_path", str(tmp_path / name), "--output_dir", str(tmp_path / "temp"), *more),
        ]

    return build


def test_two_actors_rank_as_one_process(cluster, command, tmp_path):
    rerank.main(command("one.tsv"))
    rerank.main(command("ray.tsv", "--executor", "ray"))
    assert (tmp_path / "ray.tsv").read_bytes() == (tmp_path / "one.tsv").read_bytes()


def test_an_interrupted_run_goes_on_on_ray(cluster, command, tmp_path, monkeypatch):
    rerank.main(command("one.tsv"))
    score, calls = Reranker.score_candidates, []

    def dies(self, candidates):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return score(self, candidates)

    with monkeypatch.context() as patch:
        patch.setattr(Reranker, "score_candidates", dies)
        with pytest.raises(KeyboardInterrupt):
            rerank.main(command("ray.tsv"))
    rerank.main(command("ray.tsv", "--executor", "ray"))
    assert (tmp_path / "ray.tsv").read_bytes() == (tmp_path / "one.tsv").read_bytes()


def test_two_actors_teach_as_one_process(cluster, rows, t5_folder, tmp_path):
    for name, more in (("one", ()), ("ray", ("--executor", "ray"))):
        teach.main(
            [
                *("--dataset_path", str(rows), "--model_name_or_path", str(t5_folder), "--queries_per_round", "3"),
                *("--output_path", str(tmp_path / name / "groups.jsonl"), *more),
            ]
        )
    one, other = ((tmp_path / name / "groups.jsonl").read_bytes() for name in ("one", "ray"))
    assert one == other


def fragile_work(marker: str):
    """Its class is made here, so that it travels to workers that cannot import this file."""
    import os

    class FragileWork:
        """Writes a line a query; the first worker that meets the fourth block dies."""

        def __init__(self, marker: str) -> None:
            self.marker = marker

        def __call__(self, block):
            if block[0] == "b3":
                try:
                    os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    pass
                else:
                    os._exit(1)
            yield [f"line of {block[0]}"]

        def report(self):
            return {}

    return FragileWork(marker)


def test_a_lost_worker_is_made_again(cluster, tmp_path):
    marker = str(tmp_path / "marker")
    blocks = [[f"b{number}"] for number in range(8)]
    from ray.cloudpickle import register_pickle_by_value

    register_pickle_by_value(sys.modules[__name__])
    share_args = ShareArguments(executor="ray", ray_actors=2)
    results = on_ray.run_on_ray(partial(fragile_work, marker), partial(iter, blocks), {1}.__contains__, share_args)
    found = list(results)
    assert [(one.number, one.lines) for one in found] == [(n, [f"line of b{n}"]) for n in (0, 2, 3, 4, 5, 6, 7)]
    assert os.path.exists(marker)


def test_a_cluster_without_room_for_the_reader_is_refused():
    on_ray.check_room(3, 2)
    with pytest.raises(InputError, match="ray start --head --num-cpus 4"):
        on_ray.check_room(2, 2)
