"""The state directory: made once, refused where it is not ours, and held by one."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from warmd.adapters.state_dir import StateDir
from warmd.errors import Locked, Refused, Transient


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_one_is_made_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "warmd"
    state = StateDir.open(path)
    assert names(path) == ["FORMAT", "blobs", "installation", "mirrors", "services"]
    assert (path / "FORMAT").read_text() == "1\n"
    assert {mode(p) for p in (path, state.services, state.blobs, state.mirrors)} == {0o700}
    assert {mode(path / name) for name in ("FORMAT", "installation")} == {0o600}


def test_the_installation_is_made_once_and_no_two_are_the_same(tmp_path: Path) -> None:
    first = StateDir.open(tmp_path / "a").installation
    assert len(first) == 32
    assert StateDir.open(tmp_path / "a").installation == first
    assert StateDir.open(tmp_path / "b").installation != first


def test_a_folder_that_a_package_or_a_person_has_made_is_taken(tmp_path: Path) -> None:
    (tmp_path / "alerts").mkdir()
    (tmp_path / "PAUSE").touch()
    tmp_path.chmod(0o755)
    assert StateDir.open(tmp_path).path == tmp_path
    assert mode(tmp_path) == 0o755  # what is in it is closed all the same
    assert mode(tmp_path / "services") == 0o700


def test_a_link_to_another_disk_is_fine(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir(mode=0o700)
    (tmp_path / "warmd").symlink_to(tmp_path / "big")
    StateDir.open(tmp_path / "warmd")
    assert (tmp_path / "big" / "FORMAT").exists()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    StateDir.open(tmp_path)
    (tmp_path / "FORMAT").write_text("2\n")
    with pytest.raises(Refused, match="is in format 2, this warmd knows up to 1") as caught:
        StateDir.open(tmp_path)
    assert caught.value.hint == "run the newer warmd again"


@pytest.mark.parametrize("text", ["", "one\n", "\x00\xff"])
def test_a_format_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    StateDir.open(tmp_path)
    (tmp_path / "FORMAT").write_text(text)
    with pytest.raises(Refused, match="which is no format"):
        StateDir.open(tmp_path)


def test_somebody_elses_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(Refused, match=r"is not warmd's: it has no FORMAT but thesis\.tex"):
        StateDir.open(tmp_path)
    assert names(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("where", [".", "services", "blobs"])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, where: str) -> None:
    StateDir.open(tmp_path)
    (tmp_path / where).chmod(0o770)
    with pytest.raises(Refused, match=r"can be written by others \(mode 0770\)") as caught:
        StateDir.open(tmp_path)
    assert caught.value.hint.startswith("chmod go-w ")


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    StateDir.open(tmp_path)
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(Refused, match="belongs to user 12345"):
        StateDir.open(tmp_path)


def test_a_lost_installation_is_not_made_anew_over_old_services(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path)
    state.service("sso")
    (tmp_path / "installation").unlink()
    with pytest.raises(Refused, match="installation is missing, though there are services") as caught:
        StateDir.open(tmp_path)
    assert "warmd.owner" in caught.value.hint


def test_a_damaged_installation_is_refused(tmp_path: Path) -> None:
    StateDir.open(tmp_path)
    (tmp_path / "installation").write_text("")
    with pytest.raises(Refused, match="holds no installation id"):
        StateDir.open(tmp_path)


def test_a_full_disk_may_have_room_later(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 1024 * 1024)
    inner = small_disk / "warmd"
    with pytest.raises(Transient, match="No space left"):
        StateDir.open(inner)
    filler.unlink()
    assert len(StateDir.open(inner).installation) == 32


def test_a_service_has_a_folder_of_its_own(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path)
    folder = state.service("sso")
    assert folder == tmp_path / "services" / "sso"
    assert state.service("sso") == folder
    assert mode(folder) == 0o700


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", ".hidden", "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="can't be the name"):
        StateDir.open(tmp_path).service(name)


HOLDER = """
import pathlib, sys, time
from warmd.adapters.state_dir import StateDir
with StateDir.open(pathlib.Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_at_a_time_and_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with (
                pytest.raises(Locked, match=rf"another warmd \(pid {holder.pid}\) holds {tmp_path}"),
                state.lock(),
            ):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
    with state.lock():  # the kernel let go of it
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_can_be_taken_again_and_again(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path)
    for _ in range(2):
        with state.lock(), pytest.raises(Locked), state.lock():
            pass


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path)
    with state.lock():
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with state.lock():
            pass
    finally:
        child.kill()
        child.wait()


def test_whoever_takes_the_lock_clears_away_what_a_killed_one_was_writing(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path)
    whole, half = state.blobs / ("0" * 64), state.blobs / f".{'0' * 64}.0badcafe.tmp"
    whole.write_text("whole")
    half.write_text("ha")
    with state.lock():
        assert (whole.exists(), half.exists()) == (True, False)
