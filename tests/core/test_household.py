"""What is told of warmd as a whole: Docker, journals, and services that can't be looked after."""

from __future__ import annotations

import pytest

from warmd.core import household
from warmd.core.household import Trouble
from warmd.errors import DockerUnreachable, JournalDamaged, JournalError, Permanent, Transient, WarmdError

AWAY = DockerUnreachable("no answer")
DAMAGED = JournalDamaged("j:3: was changed", hint="move it", aside="mv j damaged/")


def told(error: WarmdError, failures: int, *open_now: tuple[str, str]) -> list[tuple[str, str]]:
    found = household.wanted({"sso": Trouble(error, failures)}, services=2, open_now=open_now)
    return [(n.kind, n.candidate) for n in found]


@pytest.mark.parametrize(
    ("error", "failures", "open_now", "expected"),
    [
        pytest.param(AWAY, 2, (), [], id="docker twice: it may pass"),
        pytest.param(AWAY, 3, (), [("docker-unreachable", "")], id="docker three times"),
        pytest.param(
            AWAY,
            1,
            [("docker-unreachable", "")],
            [("docker-unreachable", "")],
            id="docker again, by a new process: it is not over",
        ),
        pytest.param(DAMAGED, 1, (), [("journal-damaged", "sso")], id="a journal at once"),
        pytest.param(JournalError("newer"), 2, (), [], id="a journal that changed: it is read anew"),
        pytest.param(JournalError("newer"), 3, (), [("journal-damaged", "sso")], id="a newer journal"),
        pytest.param(
            JournalError("changed"),
            1,
            [("journal-damaged", "sso")],
            [("journal-damaged", "sso")],
            id="a journal that is still not well",
        ),
        pytest.param(Permanent("no"), 2, (), [], id="anything else twice"),
        pytest.param(Permanent("no"), 3, (), [("look-failed", "sso")], id="anything else three times"),
        pytest.param(
            Permanent("no"), 1, [("look-failed", "sso")], [("look-failed", "sso")], id="it is not over"
        ),
        pytest.param(Permanent("no"), 1, [("look-failed", "proxy")], [], id="another one's"),
    ],
)
def test_what_is_told(
    error: WarmdError,
    failures: int,
    open_now: tuple[tuple[str, str], ...],
    expected: list[tuple[str, str]],
) -> None:
    assert told(error, failures, *open_now) == expected


def test_with_nothing_wrong_nothing_is_told() -> None:
    assert household.wanted({}, services=2) == ()


def test_docker_is_told_once_with_how_many_it_concerns() -> None:
    troubles = {name: Trouble(AWAY, 3) for name in ("sso", "proxy")}
    (notice,) = household.wanted(troubles, services=3)
    assert notice.severity == "critical"
    assert "2 of 3 services" in notice.summary
    assert notice.commands == ("systemctl status docker", "docker info")


@pytest.mark.parametrize(
    ("error", "commands"),
    [
        pytest.param(JournalError("newer"), ("warmd history sso",), id="newer: nothing to move away"),
        pytest.param(JournalDamaged("x"), ("warmd history sso",), id="nobody knows where it is"),
    ],
)
def test_a_journal_alert_says_what_to_type(error: JournalError, commands: tuple[str, ...]) -> None:
    (notice,) = household.wanted({"sso": Trouble(error, 3)}, services=1)
    assert (notice.severity, notice.detail, notice.commands) == ("critical", str(error), commands)


def test_who_begins_a_new_journal_is_told_what_becomes_of_the_alerts_of_the_old_one() -> None:
    (notice,) = household.wanted({"sso": Trouble(DAMAGED)}, services=1)
    assert (notice.severity, notice.commands) == ("critical", ("mv j damaged/", "warmd adopt sso"))
    own = household.lost("warmd.daemon", DAMAGED)
    for detail, begins, whose in (
        (notice.detail, str(DAMAGED), "about sso"),
        (own.detail, DAMAGED.message, "about warmd as a whole"),
    ):
        assert detail.startswith(f"{begins}\n")
        assert whose in detail
        assert "stay open in the spool: nothing resolves them" in detail
        assert "under a new id and the same fingerprint" in detail
        assert "not delivered by then is only in the damaged journal" in detail


def test_a_failed_look_says_how_often() -> None:
    (notice,) = household.wanted({"sso": Trouble(Permanent("disk"), 4)}, services=1)
    assert notice.summary == "sso: it can't be looked after, 4 tries failed"
    assert notice.commands == ("warmd status sso", "warmd reconcile sso")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(AWAY, ["docker-unreachable"], id="docker"),
        pytest.param(Permanent("no"), ["look-failed"], id="what stays"),
        pytest.param(Transient("full"), [], id="what may pass"),
    ],
)
def test_a_lone_pass_tells_at_once_of_what_no_later_look_would_mend(
    error: WarmdError, expected: list[str]
) -> None:
    found = household.wanted({"sso": Trouble(error, alone=True)}, services=1)
    assert [n.kind for n in found] == expected
    assert not any("tries" in n.summary for n in found)


def test_what_became_of_its_own_journal_is_told() -> None:
    notice = household.lost("warmd.daemon", DAMAGED)
    assert (notice.kind, notice.candidate, notice.severity) == ("journal-damaged", "warmd.daemon", "warning")
