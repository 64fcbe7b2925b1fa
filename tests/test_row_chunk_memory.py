"""The memory of training is set by the rows of a chunk and not by those of a group."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import WORDS

from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.schema import Group, Passage

PROGRAM = """
import resource, sys
from tevatron_distill.driver.train import main
main(sys.argv[1:])
print("peak MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(folder, tmp_path, size, *flags):
    """Megabytes that a process needs at most to train on groups of a size."""
    text = " ".join(WORDS * 30)
    passages = tuple(Passage(f"d{place}", text) for place in range(size))
    path = tmp_path / f"{size}.jsonl"
    path.write_text(group_to_line(Group("q", "red", passages, tuple(range(size)), size)) + "\n", encoding="utf-8")
    words = {"--model_name_or_path": folder, "--dataset_path": path, "--train_group_size": size}
    words |= {"--output_dir": tmp_path / f"out{size}{len(flags)}", "--rerank_max_len": 256, "--max_steps": 2}
    done = subprocess.run(
        [
            *(sys.executable, "-c", PROGRAM, "--use_cpu", "--save_strategy", "no", "--report_to", "none"),
            *("--loss", "rank_net", "--per_device_train_batch_size", "1", *flags),
            *[str(word) for pair in words.items() for word in pair],
        ],
        # small blocks, too, go back to the system, so that what is measured is what is needed
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "32768", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return int(done.stdout.rpartition("peak MB")[2])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss and malloc's threshold are Linux's")
def test_a_group_of_100_trains_in_the_memory_of_a_group_of_8(bert_classifier_folder, tmp_path):
    small = peak(bert_classifier_folder, tmp_path, 8)
    chunked = peak(bert_classifier_folder, tmp_path, 100, "--row_chunk_size", "8")
    whole = peak(bert_classifier_folder, tmp_path, 100)
    assert chunked < small + 20
    assert whole > small + 100
