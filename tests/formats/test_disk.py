"""What a disk refuses is one clear error, and earlier output stays."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from tevatron_distill.formats.output import ResumableOutput, write_whole
from tevatron_distill.schema import InputError


@pytest.fixture
def small_disk():
    """No file may grow beyond 8 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_later(tmp_path, small_disk):
    path = tmp_path / "run.tsv"
    path.write_text("earlier\n")
    lines = [f"{number} " + "x" * 2000 for number in range(6)]

    def run():
        with ResumableOutput(path, {}, [], overwrite=True) as output:
            for line in lines:
                output.append([line])

    with pytest.raises(InputError, match=r"run\.tsv\.partial: the disk has no room .*the same command again"):
        run()
    assert path.read_text() == "earlier\n"
    path.unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with ResumableOutput(path, {}, []) as output:
        assert [line for _, line in output.done_lines()] == lines[:4]
        output.append(lines[4:])
    assert path.read_text().splitlines() == lines


def test_a_small_file_that_does_not_fit_leaves_the_earlier_one_and_nothing_else(tmp_path, small_disk):
    path = tmp_path / "run.tsv"
    path.write_text("earlier\n")
    with pytest.raises(InputError, match="no room"):
        write_whole(path, ["x" * 5000] * 3, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["run.tsv"]
    assert path.read_text() == "earlier\n"


@pytest.mark.parametrize("folder", ["/proc/none", "file/below"])
def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path, folder):
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / folder / "run.tsv"
    for write in (lambda: ResumableOutput(path, {}, []).__enter__(), lambda: write_whole(path, "x")):
        with pytest.raises(InputError, match=r"run\.tsv.*must be writable; got .*name another path"):
            write()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied; name another path"):
        ResumableOutput(tmp_path / "run.tsv", {}, []).__enter__()


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="there is no second device")
def test_output_on_another_device_is_renamed_there(tmp_path):
    path = f"/dev/shm/tevatron_distill_{os.getpid()}.tsv"
    try:
        with ResumableOutput(path, {}, []) as output:
            output.append(["one"])
        with open(path) as file:
            assert file.read() == "one\n"
    finally:
        for name in (path, f"{path}.run_config.json"):
            if os.path.exists(name):
                os.unlink(name)


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path):
    path = tmp_path / "run.tsv"
    program = (
        "import sys; from tevatron_distill.formats.output import ResumableOutput\n"
        "with ResumableOutput(sys.argv[1], {}, []) as output:\n"
        "    output.append(['one']); print('ready', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match=r"run\.tsv\.partial: another process is writing this output"):
            ResumableOutput(path, {}, []).__enter__()
    finally:
        first.kill()
        first.communicate()
    with ResumableOutput(path, {}, []) as output:
        assert output.num_done_lines == 1
        output.append(["two"])
    assert path.read_text() == "one\ntwo\n"
