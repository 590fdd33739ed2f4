"""Commands end when they should, with everything they started, and never flood or leak."""

from __future__ import annotations

import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from warmd.adapters.process import Deadline, ProcessFailed, ProgramMissing, run

SHELL = "/bin/sh"
PLAIN = {"PATH": os.environ["PATH"]}


def alive(pid: int) -> bool:
    """Running, not merely waiting to be reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def number_in(path: Path) -> int:
    """The process id that a command wrote to a file; 0 while it has not."""
    return int(path.read_text().strip() or 0) if path.exists() else 0


async def true(condition: Callable[[], object]) -> bool:
    with anyio.move_on_after(5):
        while not condition():  # noqa: ASYNC110 - other processes set no event
            await anyio.sleep(0.01)
        return True
    return False


async def gone(*pids: int) -> bool:
    return await true(lambda: not any(alive(pid) for pid in pids))


async def written(path: Path) -> int:
    assert await true(lambda: number_in(path))
    return number_in(path)


async def test_a_command_gives_its_code_and_both_streams() -> None:
    done = await run([SHELL, "-c", "echo out; echo err >&2; exit 3"], env=PLAIN, deadline=10)
    assert (done.code, done.stdout, done.stderr, done.truncated) == (3, b"out\n", b"err\n", False)


async def test_the_environment_is_exactly_what_was_given() -> None:
    done = await run(["/usr/bin/env"], env={"ONLY": "this"}, deadline=10)
    assert done.stdout == b"ONLY=this\n"


async def test_the_working_directory_is_the_given_one(tmp_path: Path) -> None:
    done = await run(["/bin/pwd"], env={}, cwd=tmp_path, deadline=10)
    assert done.stdout.decode().strip() == str(tmp_path)


async def test_stdin_is_empty_so_that_nothing_can_wait_for_an_answer() -> None:
    done = await run(["/bin/cat"], env={}, deadline=10)
    assert (done.code, done.stdout) == (0, b"")


async def test_a_file_can_be_stdin_and_another_one_stdout() -> None:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        source.write(b"x" * 5_000_000)
        source.seek(0)
        done = await run(["/bin/cat"], env={}, deadline=10, stdin=source, stdout=sink)
        assert (done.stdout, done.truncated, sink.seek(0, os.SEEK_END)) == (b"", False, 5_000_000)


async def test_of_too_much_output_the_start_is_kept_and_of_stderr_the_end() -> None:
    code = "import sys; sys.stdout.write('a'+'b'*300000); sys.stderr.write('c'*300000+'d')"
    done = await run([sys.executable, "-c", code], env={}, deadline=20, limit=1000)
    assert done.stdout == b"a" + b"b" * 999
    assert done.stderr == b"c" * 999 + b"d"
    assert (done.truncated, done.code) == (True, 0)


async def test_the_reason_is_the_last_line_of_stderr_made_printable() -> None:
    done = await run([SHELL, "-c", r"printf 'first\nbad \033[31m thing\n\n' >&2"], env=PLAIN, deadline=10)
    assert done.reason == "bad \N{REPLACEMENT CHARACTER}[31m thing"


async def test_without_a_word_the_reason_is_the_exit_code() -> None:
    done = await run([SHELL, "-c", "exit 9"], env=PLAIN, deadline=10)
    assert "9" in done.reason


async def test_check_raises_for_a_bad_code_and_keeps_arguments_and_output_out_of_the_message() -> None:
    done = await run([SHELL, "-c", "echo s3cret >&2; exit 1"], env=PLAIN, deadline=10, name="the renderer")
    with pytest.raises(ProcessFailed, match="the renderer ended with code 1") as raised:
        done.check()
    assert "s3cret" not in str(raised.value)
    assert raised.value.completed.stderr == b"s3cret\n"


async def test_check_lets_a_good_one_through() -> None:
    done = await run(["/bin/true"], env={}, deadline=math.inf)
    assert done.check() is done


@pytest.mark.parametrize("program", ["no-such-program-here", "/etc/passwd"])
async def test_a_program_that_can_not_be_started_is_named(program: str) -> None:
    with pytest.raises(ProgramMissing, match=Path(program).name):
        await run([program], env=PLAIN, deadline=10)


async def test_a_missing_working_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="nowhere"):
        await run(["/bin/true"], env={}, cwd=tmp_path / "nowhere", deadline=10)


async def test_past_the_deadline_the_whole_group_is_ended(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! >{tmp_path}/child; echo $$ >{tmp_path}/self; wait"
    started = time.monotonic()
    with pytest.raises(Deadline, match=r"sh did not end within 500ms"):
        await run([SHELL, "-c", script], env=PLAIN, deadline=0.5)
    assert time.monotonic() - started < 3
    assert await gone(await written(tmp_path / "child"), await written(tmp_path / "self"))


async def test_a_command_that_ignores_term_is_killed_after_the_grace() -> None:
    started = time.monotonic()
    with pytest.raises(Deadline):
        await run(
            [SHELL, "-c", "trap '' TERM; sleep 60 & wait; sleep 60"], env=PLAIN, deadline=0.3, grace=0.3
        )
    assert 0.6 <= time.monotonic() - started < 5


async def test_a_cleaning_command_gets_its_grace(tmp_path: Path) -> None:
    script = f"trap 'echo cleaned >{tmp_path}/note; exit 0' TERM; echo $$ >{tmp_path}/self; sleep 60 & wait"
    with pytest.raises(Deadline):
        await run([SHELL, "-c", script], env=PLAIN, deadline=1)
    assert (tmp_path / "note").read_text() == "cleaned\n"


async def test_cancelling_the_caller_ends_the_group(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! >{tmp_path}/child; wait"
    async with anyio.create_task_group() as group:

        async def work() -> None:
            await run([SHELL, "-c", script], env=PLAIN, deadline=60)

        group.start_soon(work)
        child = await written(tmp_path / "child")
        group.cancel_scope.cancel()
    assert await gone(child)


async def test_a_child_left_behind_with_the_pipes_open_does_not_hold_the_caller(tmp_path: Path) -> None:
    started = time.monotonic()
    done = await run(
        [SHELL, "-c", f"sleep 60 & echo $! >{tmp_path}/child; echo done"], env=PLAIN, deadline=30
    )
    assert (done.code, done.stdout) == (0, b"done\n")
    assert time.monotonic() - started < 10
    assert await gone(await written(tmp_path / "child"))


async def test_a_daemon_that_left_the_group_and_keeps_the_pipes_does_not_hold_the_caller(
    tmp_path: Path,
) -> None:
    started = time.monotonic()
    script = f"setsid sh -c 'echo $$ >{tmp_path}/daemon; exec sleep 60' & echo done"
    done = await run([SHELL, "-c", script], env=PLAIN, deadline=30)
    daemon = await written(tmp_path / "daemon")
    try:
        assert done.stdout == b"done\n"
        assert time.monotonic() - started < 10
    finally:
        os.kill(daemon, signal.SIGKILL)


async def test_a_command_ended_by_a_signal_gives_its_negative_number() -> None:
    done = await run([SHELL, "-c", "kill -9 $$"], env=PLAIN, deadline=10)
    assert done.code == -9


async def test_a_descriptor_passed_on_stays_open_in_the_command() -> None:
    reading, writing = os.pipe()
    try:
        script = f"echo hello >/dev/fd/{writing}"
        done = await run([SHELL, "-c", script], env=PLAIN, deadline=10, pass_fds=(writing,))
        assert done.code == 0
        assert os.read(reading, 100) == b"hello\n"
    finally:
        os.close(reading)
        os.close(writing)
