"""Output that appears whole or not at all, and goes on where it stopped."""

from __future__ import annotations

import json

import pytest

from tevatron_distill.formats.output import ResumableOutput, hash_path, write_run_config, write_whole
from tevatron_distill.schema import InputError


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "input.txt"
    path.write_text("texts")
    return path


def interrupt(path, source, lines, arguments=None, torn=b""):
    def run():
        with ResumableOutput(path, arguments or {"depth": 5, "to": ("a", "b")}, [source]) as output:
            output.append(lines)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    if torn:
        with open(f"{path}.partial", "ab") as file:
            file.write(torn)


def test_a_finished_output_is_renamed_and_its_making_recorded(tmp_path, source):
    path = tmp_path / "new" / "groups.jsonl"
    with ResumableOutput(path, {"depth": 5}, [source]) as output:
        output.append(["one", "größe"])
        assert not path.exists()
        output.append([])
        output.append(["three"])
        output.add_report({"queries": 3})
    assert path.read_text(encoding="utf-8") == "one\ngröße\nthree\n"
    assert sorted(file.name for file in path.parent.iterdir()) == ["groups.jsonl", "groups.jsonl.run_config.json"]
    record = json.loads((path.parent / "groups.jsonl.run_config.json").read_text())
    assert record["arguments"] == {"depth": 5}
    assert record["inputs"] == {str(source): hash_path(source)}
    assert record["report"] == {"queries": 3}
    assert "tevatron-distill" in record["versions"]
    assert "python" in record["versions"]


def test_an_interrupted_output_goes_on_behind_its_complete_lines(tmp_path, source):
    path = tmp_path / "out.jsonl"
    interrupt(path, source, ["one", "größe"], torn=b"thr" + "ö".encode()[:1])
    assert not path.exists()
    with ResumableOutput(path, {"depth": 5, "to": ("a", "b")}, [source]) as output:
        assert [line for _, line in output.done_lines()] == ["one", "größe"]
        assert output.num_done_lines == 2
        output.append(["three"])
    assert path.read_text(encoding="utf-8") == "one\ngröße\nthree\n"
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_a_file_torn_in_its_first_line_starts_empty(tmp_path, source):
    path = tmp_path / "out.jsonl"
    interrupt(path, source, [], torn=b"on")
    with ResumableOutput(path, {"depth": 5, "to": ("a", "b")}, [source]) as output:
        assert [line for _, line in output.done_lines()] == []
        output.append(["one"])
    assert path.read_text() == "one\n"


def test_a_partial_output_of_other_arguments_or_inputs_is_refused_by_name(tmp_path, source):
    path = tmp_path / "out.jsonl"
    interrupt(path, source, ["one"])
    with pytest.raises(InputError, match=r"these differ: depth;"):
        ResumableOutput(path, {"depth": 6, "to": ("a", "b")}, [source])
    with pytest.raises(InputError, match=r"these differ: model, to;"):
        ResumableOutput(path, {"depth": 5, "model": "m"}, [source])
    source.write_text("other texts")
    with pytest.raises(InputError, match=r"these differ: .*input\.txt"):
        ResumableOutput(path, {"depth": 5, "to": ("a", "b")}, [source])


def test_a_partial_output_without_a_record_is_refused(tmp_path, source):
    (tmp_path / "out.jsonl.partial").write_text("one\n")
    with pytest.raises(InputError, match="no record"):
        ResumableOutput(tmp_path / "out.jsonl", {}, [source])


def test_a_run_that_died_between_its_last_two_renames_is_finished_by_the_next(tmp_path, source):
    path = tmp_path / "out.jsonl"
    interrupt(path, source, ["one"])
    (tmp_path / "out.jsonl.partial.run_config.json").rename(tmp_path / "out.jsonl.run_config.json")
    with ResumableOutput(path, {"depth": 5, "to": ("a", "b")}, [source]) as output:
        assert [line for _, line in output.done_lines()] == ["one"]
    assert path.read_text() == "one\n"


def test_overwriting_is_not_an_argument_of_the_output(tmp_path, source):
    path = tmp_path / "out.jsonl"
    interrupt(path, source, ["one"], {"overwrite_output_dir": True})
    assert [line for _, line in ResumableOutput(path, {"overwrite_output_dir": False}, [source]).done_lines()] == [
        "one"
    ]


def test_a_complete_output_stops_a_run_and_is_replaced_only_at_the_end(tmp_path, source):
    path = tmp_path / "out.jsonl"
    path.write_text("old\n")
    with pytest.raises(InputError, match=r"exists already.*--overwrite_output_dir"):
        ResumableOutput(path, {}, [source])
    with ResumableOutput(path, {}, [source], overwrite=True) as output:
        output.append(["new"])
        assert path.read_text() == "old\n"
    assert path.read_text() == "new\n"


def test_overwriting_throws_a_partial_output_away(tmp_path, source):
    path = tmp_path / "out.jsonl"
    interrupt(path, source, ["one"])
    with ResumableOutput(path, {"depth": 6}, [source], overwrite=True) as output:
        assert [line for _, line in output.done_lines()] == []
        output.append(["new"])
    assert path.read_text() == "new\n"


def test_a_missing_input_and_an_output_that_is_a_folder_are_refused(tmp_path, source):
    with pytest.raises(InputError, match=r"missing\.txt: the input must be readable"):
        ResumableOutput(tmp_path / "out", {}, [tmp_path / "missing.txt"])
    with pytest.raises(InputError, match="got a folder"):
        ResumableOutput(tmp_path, {}, [source])


def test_lines_are_taken_only_inside_the_with_block(tmp_path, source):
    with pytest.raises(RuntimeError, match="with-block"):
        ResumableOutput(tmp_path / "out", {}, [source]).append(["one"])


def test_small_files_are_written_whole_and_not_over_others(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_whole(path, ["a", "b"])
    assert path.read_text() == "a\nb\n"
    with pytest.raises(InputError, match="exists already"):
        write_whole(path, "c")
    write_whole(path, "c", overwrite=True)
    assert [file.read_text() for file in path.parent.iterdir()] == ["c"]


def test_a_generator_that_fails_leaves_no_file_behind_its_name(tmp_path):
    def lines():
        yield "one"
        raise InputError("bad row")

    with pytest.raises(InputError, match="bad row"):
        write_whole(tmp_path / "file.txt", lines())
    assert not (tmp_path / "file.txt").exists()


def test_a_folder_keeps_its_record_inside_and_its_hash_sees_names_and_bytes(tmp_path):
    write_run_config(tmp_path, {"seed": 1}, [])
    assert json.loads((tmp_path / "run_config.json").read_text())["arguments"] == {"seed": 1}
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("x")
    before = hash_path(folder)
    (folder / "a").rename(folder / "b")
    renamed = hash_path(folder)
    (folder / "b").write_text("y")
    assert len({before, renamed, hash_path(folder)}) == 3
