"""Ctrl-C and full disks, on real processes: what is done is kept, and the same command goes on."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import Pipe

import pytest
from tortured import CONTEXT, torture

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(300)]

SECONDS_TO_END = 2.0
PATIENCE = 60.0


@pytest.fixture(scope="module", params=torture.VERBS)
def victim(request, tmp_path_factory):
    return torture.Victim(request.param, tmp_path_factory.mktemp(request.param), CONTEXT)


def progress(victim, folder):
    """Whether something is done that must be kept."""
    if victim.verb == "train":
        return len(list(folder.glob("checkpoint-*/trainer_state.json"))) >= 2
    return any(path.stat().st_size for path in folder.glob("*.partial"))


def start_and_wait(victim, command):
    """A process that has done something, and the end of its log."""
    ours, theirs = Pipe(duplex=False)
    process = CONTEXT.Process(target=torture.drive, args=(command, torture.Plan(), theirs))
    process.start()
    theirs.close()
    until = time.monotonic() + PATIENCE
    while not progress(victim, command.folder):
        assert process.exitcode is None
        assert time.monotonic() < until
        time.sleep(0.01)
    return process, ours


def test_ctrl_c_ends_soon_and_keeps_what_is_done(victim):
    command = victim.command("interrupted")
    process, log = start_and_wait(victim, command)
    os.kill(process.pid, signal.SIGINT)
    began = time.monotonic()
    process.join(PATIENCE)
    seconds = time.monotonic() - began
    text = os.read(log.fileno(), 1 << 20).decode()
    assert process.exitcode == 130
    assert seconds < SECONDS_TO_END
    assert "interrupted" in text
    assert "Traceback" not in text
    assert progress(victim, command.folder)
    assert torture.run(CONTEXT, command).code == 0
    assert victim.differing(command.folder) == []


def test_a_second_process_on_the_same_output_is_refused(victim):
    command = victim.command("twice")
    process, _ = start_and_wait(victim, command)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        second = torture.run(CONTEXT, command)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    process.join(PATIENCE)
    assert second.code == 1
    assert "another process is writing this output" in second.log
    assert process.exitcode == 0
    assert victim.differing(command.folder) == []


def test_a_full_disk_is_one_clear_error_and_the_same_command_goes_on(victim):
    """No file may grow over half of the largest that the command writes."""
    command = victim.command("full")
    finished = torture.run(CONTEXT, command, torture.Plan("full", victim.largest // 2))
    assert finished.code == 1
    errors = [line for line in finished.log.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "the disk has no room" in errors[0]
    assert "Traceback" not in finished.log
    assert torture.run(CONTEXT, command).code == 0
    assert victim.differing(command.folder) == []


def test_an_output_folder_that_cannot_be_written_is_one_clear_error(victim):
    command = victim.command("unwritable")
    command.folder.write_text("a file where a folder should be")
    finished = torture.run(CONTEXT, command)
    assert finished.code == 1
    assert len([line for line in finished.log.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in finished.log
