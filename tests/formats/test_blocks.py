"""Blocks of lines that one process or many write, in any order of kills."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tevatron_distill.formats.blocks import BlockOutput, merge_parts
from tevatron_distill.formats.parts import part_path, parts_folder
from tevatron_distill.schema import InputError
from tevatron_distill.sharing import Processes, Share

SIZES = [3, 1, 4, 2, 0, 5, 1]
BLOCKS = [[f"q{number}_{place}" for place in range(size)] for number, size in enumerate(SIZES)]
WHOLE = "".join(f"{name} d 1\n" for block in BLOCKS for name in block)


class StoppedError(Exception):
    pass


def work(path, *, processes=None, stop=None, arguments=None, **shard):
    """One process: makes its blocks, and dies in front of its ``stop``-th line."""
    written = 0
    with BlockOutput(path, arguments or {"depth": 5}, [], processes=processes, **shard) as output:
        output.find_done(BLOCKS, lambda block: (block, len(block)), lambda place, line: line.split()[0])
        for number, block in output.todo(BLOCKS):
            output.write(number, [])
            for name in block:
                if written == stop:
                    raise StoppedError
                output.write(number, [f"{name} d 1"])
                written += 1
        output.finish({"lines": written})
    return written


def killed(path, **keywords):
    with pytest.raises(StoppedError):
        work(path, **keywords)


class Together(Processes):
    """Processes of which one runs inside the other; what the first has made is known to the second, in its order."""

    def from_first(self, make):
        if self.is_first:
            MADE.append(make())
            return MADE[-1]
        return MADE.pop(0)

    def wait(self):
        pass


MADE: list = []


@pytest.mark.parametrize("stop", range(sum(SIZES)))
def test_one_process_goes_on_in_the_middle_of_a_block(tmp_path, stop):
    path = tmp_path / "run.tsv"
    killed(path, stop=stop)
    if stop:
        with open(f"{path}.partial", "ab") as file:
            file.write(b"q9 d torn")
    assert work(path) <= sum(SIZES) - stop + max(SIZES)
    assert path.read_text() == WHOLE
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.tsv", "run.tsv.run_config.json"]


@settings(max_examples=30)  # each writes a dozen files to the disk
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 6)), max_size=4), st.integers(1, 3), st.randoms())
def test_any_number_of_processes_goes_on_after_any_other(tmp_path_factory, kills, count, order):
    path = tmp_path_factory.mktemp("out") / "run.tsv"
    for num_processes, stop in kills:
        for rank in order.sample(range(num_processes), num_processes):
            if num_processes > 1:
                try:
                    work(path, stop=stop, num_shards=num_processes, shard_index=rank)
                except (StoppedError, InputError):  # a shard does not go on behind a run of one process
                    continue
            else:
                try:
                    work(path, stop=stop)
                    assert path.read_text() == WHOLE
                    return
                except StoppedError:
                    continue
    if count > 1 and not path.with_name("run.tsv.partial").exists():
        for rank in range(count):
            work(path, num_shards=count, shard_index=rank)
        merge_parts(path)
    else:
        work(path)
    assert path.read_text() == WHOLE
    assert not parts_folder(path).exists()


def test_shards_are_merged_and_their_counts_added_up(tmp_path):
    path = tmp_path / "run.tsv"
    done = [work(path, num_shards=3, shard_index=index) for index in (2, 0, 1)]
    assert not path.exists()
    assert merge_parts(path)["lines"] == sum(done) == sum(SIZES)
    assert path.read_text() == WHOLE
    record = json.loads((tmp_path / "run.tsv.run_config.json").read_text())
    assert [one["lines"] for one in record["report"]["processes"]] == [done[1], done[2], done[0]]
    assert all(one["peak_memory_mib"] > 0 for one in record["report"]["processes"])
    assert record["arguments"] == {"depth": 5}


def test_a_merge_refuses_missing_and_unfinished_shards_by_their_numbers(tmp_path):
    path = tmp_path / "run.tsv"
    with pytest.raises(InputError, match="0 parts"):
        merge_parts(path)
    for index in (0, 3):
        work(path, num_shards=4, shard_index=index)
    killed(path, num_shards=4, shard_index=1, stop=1)
    with pytest.raises(InputError, match=r"of 7 are missing, of shard_index 1, 2 of 4"):
        merge_parts(path)
    assert not path.exists()
    for index in (1, 2):
        work(path, num_shards=4, shard_index=index)
    merge_parts(path)
    assert path.read_text() == WHOLE


def test_overlapping_shards_and_shards_of_other_arguments_are_refused(tmp_path):
    path, other = tmp_path / "run.tsv", tmp_path / "other.tsv"
    work(path, num_shards=2, shard_index=0)
    work(other, num_shards=3, shard_index=0)
    stray = part_path(parts_folder(path), Share(0, 3))
    part_path(parts_folder(other), Share(0, 3)).rename(stray)
    with pytest.raises(InputError, match=r"must not overlap; block 0 stands in .*00000-of-00002"):
        work(path, num_shards=2, shard_index=1)
    stray.unlink()
    with pytest.raises(InputError, match="these differ: depth"):
        work(path, num_shards=2, shard_index=1, arguments={"depth": 6})
    with pytest.raises(InputError, match="these differ: depth"):
        work(path, arguments={"depth": 6})


def test_the_command_without_shards_makes_what_is_missing_and_merges(tmp_path):
    path = tmp_path / "run.tsv"
    first = work(path, num_shards=2, shard_index=0)
    assert work(path) == sum(SIZES) - first
    assert path.read_text() == WHOLE


def test_a_shard_does_not_begin_beside_a_run_of_one_process(tmp_path):
    path = tmp_path / "run.tsv"
    killed(path, stop=4)
    with pytest.raises(InputError, match="a run without --num_shards has begun"):
        work(path, num_shards=2, shard_index=0)
    with pytest.raises(InputError, match="do not go together"):
        BlockOutput(path, {}, [], True, num_shards=2)


def test_two_processes_never_write_one_part_or_merge_under_a_writer(tmp_path):
    path = tmp_path / "run.tsv"
    with BlockOutput(path, {"depth": 5}, [], num_shards=2, shard_index=0):
        for attempt in (lambda: work(path, num_shards=2, shard_index=0), lambda: work(path), lambda: merge_parts(path)):
            with pytest.raises(InputError, match="another process is writing this output"):
                attempt()
    with BlockOutput(path, {"depth": 5}, []), pytest.raises(InputError, match="another process is writing"):
        work(path, num_shards=2, shard_index=1)


def test_the_first_process_of_a_launcher_merges_what_all_have_made(tmp_path):
    path = tmp_path / "run.tsv"
    killed(path, stop=5)
    with BlockOutput(path, {"depth": 5}, [], processes=Together(0, 2)) as first:
        first.find_done(BLOCKS, lambda block: (block, len(block)), lambda place, line: line.split()[0])
        assert first.done == (2, 1)
        assert work(path, processes=Together(1, 2)) == SIZES[3] + SIZES[5]
        for number, block in first.todo(BLOCKS):
            first.write(number, [f"{name} d 1" for name in block])
        first.finish({"lines": 0})
    assert path.read_text() == WHOLE


@pytest.mark.parametrize("spoil", [b"\0\0\0", b"\xff\xfe", b""])
def test_a_corrupt_line_in_the_middle_is_refused_with_its_place(tmp_path, spoil):
    path = tmp_path / "run.tsv"
    killed(path, stop=6)
    partial = tmp_path / "run.tsv.partial"
    lines = partial.read_bytes().split(b"\n")
    lines[3] = spoil
    partial.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=r"run\.tsv\.partial:4: unfinished output must hold what a run has written"):
        work(path)
    partial.write_bytes(b"\n".join([*lines[:3], b"q0_0 d 1", b""]))
    with pytest.raises(InputError, match=r"partial:4: .*query_id \"q0_0\", which is not its place"):
        work(path)


@pytest.mark.parametrize("place", ["head", "middle", "number"])
def test_a_corrupt_part_is_refused_and_a_torn_one_repaired(tmp_path, place):
    path = tmp_path / "run.tsv"
    killed(path, num_shards=2, shard_index=0, stop=5)
    part = part_path(parts_folder(path), Share(0, 2))
    whole = part.read_bytes()
    spoilt = {"head": whole.replace(b'{"share"', b'["share"', 1), "middle": whole.replace(b"q0_1", b"q0_7")}
    part.write_bytes(spoilt.get(place, whole.replace(b'"block": 0', b'"bloc": 00')))
    with pytest.raises(InputError, match=r"00000-of-00002\.part: entry [12] \(byte \d+\): unfinished output"):
        work(path, num_shards=2, shard_index=0)
    for cut in random.Random(0).sample(range(1, len(whole)), 20):
        part.write_bytes(whole[:-cut])
        work(path, num_shards=2, shard_index=0)
    work(path)
    assert path.read_text() == WHOLE


@pytest.mark.parametrize(
    "entry",
    [
        {"block": 0, "lines": 0, "bytes": 0, "crc32": 0, "end": 2},
        {"end": 2, "report": {}, "run": {}, "share": [0, 2]},
        {"end": 2},
        ["nan"],
    ],
)
def test_an_entry_of_no_kind_or_of_two_is_refused_with_its_place(tmp_path, entry):
    path = tmp_path / "run.tsv"
    killed(path, stop=4, num_shards=2, shard_index=0)
    part = part_path(parts_folder(path), Share(0, 2))
    head = part.read_bytes().split(b"\n")[0]
    part.write_bytes(head + b"\n" + json.dumps(entry).encode() + b"\n")
    with pytest.raises(InputError, match=r"part: entry 2 .*spoilt it"):
        work(path, num_shards=2, shard_index=0)
