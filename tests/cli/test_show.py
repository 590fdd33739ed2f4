"""What people see: every table, at a fixed width and a fixed time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from warmd.cli import show
from warmd.cli.show import base

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def at(**ago: float) -> str:
    return (NOW - timedelta(**ago)).isoformat()


def seen(draw: Callable[..., None], *args: Any, width: int = 100, terminal: bool = False, **more: Any) -> str:
    """What ``draw`` prints; every line without its last spaces."""
    out = io.StringIO()
    to = Console(
        file=out,
        width=width,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},
    )
    draw(*args, to=to, **more)
    text = out.getvalue()
    assert all(line == line.rstrip() for line in text.split("\n"))
    return text


def service(name: str = "keycloak", **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "service": name,
        "stack": "sso",
        "current": "10.7.2+26.5.6",
        "target": None,
        "decision": "noop-healthy",
        "reason": "10.7.2+26.5.6 is the latest safe version",
        "health": "healthy",
        "detail": "1 tasks run",
        "run": None,
        "run_state": None,
        "last_good": "10.7.2+26.5.6",
        "last_good_at": at(minutes=3),
        "alerts": [],
        "paused": False,
        "looked_at": at(seconds=2),
        "trouble": None,
    }
    return row | more


HELD = service(
    "keycloak",
    decision="held-manual-migration",
    reason="10.8.0+26.6.0: release/10.8.0+26.6.0 is to be read first",
    alerts=["held-manual-migration 10.8.0+26.6.0", "held-major 11.0.0+27.0.0"],
)


def services(*rows: dict[str, Any], **more: Any) -> str:
    return seen(show.services, rows, now=NOW, **more)


def test_status_is_one_table_and_a_line_that_sums_it_up() -> None:
    assert services(HELD, service("traefik", current="3.6.0+3.6.1", last_good="3.6.0+3.6.1")) == (
        """\
SERVICE   CURRENT        DECISION               HEALTH   LAST GOOD  NOTE
keycloak  10.7.2+26.5.6  held-manual-migration  healthy  3 min ago  10.8.0+26.6.0:
                                                                    release/10.8.0+26.6.0 is to be
                                                                    read first
                                                                    alerts: held-major 11.0.0+27.0.0
traefik   3.6.0+3.6.1    noop-healthy           healthy  3 min ago

2 services: 2 healthy, keycloak held-manual-migration
"""
    )


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_name_is_ever_cut_and_notes_keep_to_the_window(width: int) -> None:
    long = service(
        "a-service-with-quite-a-long-name-here",
        decision="held-data-without-version",
        health="inconclusive",
        last_good="10.7.1+26.5.6",
        reason="why " * 60,
    )
    text = services(HELD, long, width=width)
    for word in ("a-service-with-quite-a-long-name-here", "held-data-without-version", "10.7.2+26.5.6"):
        assert word in text
    assert "10.7.1+26.5.6, 3 min ago" in text  # another one runs than was good last
    notes = [line for line in text.split("\n") if line.strip().startswith("why")]
    assert notes
    assert max(map(len, notes)) <= max(width, 100)


def test_there_are_colours_on_a_terminal_and_nowhere_else() -> None:
    assert "\x1b[" not in services(HELD, service("sick", health="unhealthy"))
    coloured = services(HELD, service("sick", health="unhealthy"), terminal=True)
    assert "\x1b[33mheld-manual-migration" in coloured
    assert "\x1b[1;31munhealthy" in coloured
    assert "\x1b[32mhealthy" in coloured


def test_a_look_that_failed_is_a_row_of_its_own_kind() -> None:
    text = services(
        {"service": "keycloak", "error": "no answer from the Docker daemon", "code": 6}, service("b")
    )
    assert text.split("\n")[1].split() == [
        *("keycloak", "-", "error", "-", "-"),
        *("no", "answer", "from", "the", "Docker", "daemon"),
    ]
    assert "2 services: 1 healthy, keycloak error" in text


def test_what_is_the_matter_is_said_once() -> None:
    text = services(
        service(
            health="unhealthy", detail="503", decision="held-unhealthy", reason="answered 503", paused=True
        )
    )
    assert text.count("503") == 1
    assert "paused" in text


def test_without_services_it_says_so() -> None:
    assert services() == "No service is configured, or none is enabled.\n"


HOSTILE = "[bold red]x[/] :smile: \x1b[31mred\x1b[0m \x07 \u202eevil\r[/nonsense]"
HARMLESS = "[bold red]x[/] :smile: \ufffd[31mred\ufffd[0m \ufffd \ufffdevil\ufffd[/nonsense]"


def test_data_is_neither_markup_nor_control_characters() -> None:
    drawn = [
        seen(show.services, [service(reason=HOSTILE, decision="stuck")], now=NOW, width=200),
        seen(show.alerts, [alert(summary=HOSTILE)], now=NOW, width=200),
        seen(show.plan, plan(reason=HOSTILE), now=NOW, width=200),
        seen(show.history, history(runs=[run(detail=HOSTILE)]), now=NOW, width=200),
        seen(show.ran, run(detail=HOSTILE), "keycloak", width=200),
        seen(show.lines, HOSTILE, width=200),
    ]
    for text in drawn:
        assert HARMLESS in text


# --- plan ----------------------------------------------------------------------------------------


def verdicts(**failing: tuple[str, str]) -> list[dict[str, Any]]:
    rules = ("comparable", "recipe-major", "app-major", "notes", "tag", "failed-before", "approval")
    return [
        {"rule": rule, "passed": rule not in failing, "hold": hold, "reason": reason}
        for rule in rules
        for hold, reason in [failing.get(rule, (None, ""))]
    ]


def release(version: str, **more: Any) -> dict[str, Any]:
    found = {
        "version": version,
        "commit": "0123456789abcdef",
        "published": at(days=3),
        "passes": True,
        "hold": None,
        "approved": False,
        "verdicts": verdicts(),
        "crossed": None,
        "notes": [],
    }
    return found | more


def plan(**more: Any) -> dict[str, Any]:
    notes = ("held-manual-migration", "release/10.8.0+26.6.0 is to be read first")
    answer = {
        "service": "keycloak",
        "stack": "sso",
        "current": "10.7.1+26.5.6",
        "decision": "upgrade",
        "reason": "10.7.1+26.5.6 -> 10.7.2+26.5.6",
        "target": "10.7.2+26.5.6",
        "health": "healthy: 1 tasks run",
        "releases": [
            release("10.7.2+26.5.6"),
            release(
                "10.8.0+26.6.0",
                passes=False,
                hold=notes[0],
                verdicts=verdicts(notes=notes),
                notes=["release/10.8.0+26.6.0"],
            ),
            release(
                "11.0.0+27.0.0",
                passes=False,
                hold=notes[0],
                verdicts=verdicts(**{"recipe-major": ("held-major", "recipe major 10 -> 11")}),
                crossed=f"10.8.0+26.6.0: {notes[1]}",
            ),
        ],
        "ignored_tags": 2,
        "changes": ["app: image 26.5.6 -> 26.6.0"],
        "steps": ["pull the images", "stop sso"],
        "outage": "about 7s (as in run 0a1b2c3d4e5f, to 10.7.1+26.5.6)",
        "held": [f"held-manual-migration 10.8.0+26.6.0: {notes[1]}"],
        "commands": ["warmd reconcile keycloak", "warmd approve keycloak 10.8.0+26.6.0 --why '...'"],
    }
    return answer | more


def test_a_plan_explains_itself() -> None:
    assert seen(show.plan, plan(), now=NOW) == (
        """\
keycloak (stack sso): upgrade to 10.7.2+26.5.6
  why      10.7.1+26.5.6 -> 10.7.2+26.5.6
  current  10.7.1+26.5.6
  health   healthy: 1 tasks run
  held     held-manual-migration 10.8.0+26.6.0: release/10.8.0+26.6.0 is to be read first

Releases above 10.7.1+26.5.6
RELEASE        PUBLISHED   VERDICT                RULES
10.7.2+26.5.6  3 days ago  passes                 ✓ comparable, recipe-major, app-major, notes, tag,
                                                  failed-before, approval
10.8.0+26.6.0  3 days ago  held-manual-migration  ✓ comparable, recipe-major, app-major, tag,
                                                  failed-before, approval
                                                  ✗ notes: release/10.8.0+26.6.0 is to be read first
11.0.0+27.0.0  3 days ago  held-manual-migration  ✓ comparable, app-major, notes, tag,
                                                  failed-before, approval
                                                  ✗ recipe-major: recipe major 10 -> 11
                                                  ✗ crosses 10.8.0+26.6.0: release/10.8.0+26.6.0 is
                                                  to be read first
2 tags that are no version: ignored

Notes to read (warmd alerts keycloak shows those that hold it)
  10.8.0+26.6.0  release/10.8.0+26.6.0  (at commit 0123456789ab)

Differences
  app: image 26.5.6 -> 26.6.0

What would happen
  1. pull the images
  2. stop sso
Expected outage: about 7s (as in run 0a1b2c3d4e5f, to 10.7.1+26.5.6)

Nothing was changed. What you may type:
  $ warmd reconcile keycloak
  $ warmd approve keycloak 10.8.0+26.6.0 --why '...'
"""
    )


def test_a_plan_without_work_says_that_nothing_would_be_done() -> None:
    quiet = plan(
        decision="noop-healthy",
        target=None,
        releases=[],
        steps=[],
        changes=[],
        held=[],
        commands=[],
        ignored_tags=0,
    )
    text = seen(show.plan, quiet, now=NOW)
    assert "No release above 10.7.1+26.5.6" in text
    assert "Nothing would be done." in text
    assert "Expected outage" not in text


def test_an_approved_release_shows_what_the_approval_lets_through() -> None:
    held = verdicts(notes=("held-manual-migration", "release/x is to be read first"))
    text = seen(show.plan, plan(releases=[release("10.8.0+26.6.0", approved=True, verdicts=held)]), now=NOW)
    assert "✗ notes: release/x is to be read first" in text
    assert "✓ approved" in text


def test_several_plans_stand_apart_and_one_that_failed_says_why() -> None:
    text = seen(show.plans, [plan(), {"service": "b", "error": "no answer from Docker", "code": 6}], now=NOW)
    assert text.endswith("\n\nb: error: no answer from Docker\n")


# --- history -------------------------------------------------------------------------------------


def run(**more: Any) -> dict[str, Any]:
    found = {
        "id": "0a1b2c3d4e5f",
        "kind": "upgrade",
        "from_version": "10.7.1+26.5.6",
        "to_version": "10.7.2+26.5.6",
        "state": "rolled-back",
        "started": at(minutes=10),
        "ended": at(minutes=8),
        "outage_seconds": 7.25,
        "snapshot": "0a1b2c3d4e5f",
        "detail": "not healthy within the gate's deadline",
        "asked_by": "uid 0",
        "why": "trying",
        "states": [
            ["planned", at(minutes=10)],
            ["gating", at(minutes=9, seconds=59.5)],
            ["rolled-back", at(minutes=8)],
        ],
    }
    return found | more


def history(**more: Any) -> dict[str, Any]:
    answer = {
        "service": "keycloak",
        "last_good": {
            "version": "10.7.1+26.5.6",
            "at": at(hours=3),
            "how": "went-back",
            "commit": "0123456789abcdef",
        },
        "runs": [run()],
        "failures": [
            {
                "version": "10.7.2+26.5.6",
                "outcome": "rolled-back",
                "detail": "not healthy",
                "run": "0a1b2c3d4e5f",
            }
        ],
        "approvals": [
            {"version": "10.8.0+26.6.0", "uid": 1000, "why": "read the notes", "at": at(minutes=1)}
        ],
    }
    return answer | more


def test_history_shows_runs_steps_failures_and_approvals() -> None:
    assert seen(show.history, history(), now=NOW) == (
        """\
keycloak: last good is 10.7.1+26.5.6
  put back by warmd, 2026-01-31 09:00:00 UTC (3 h ago)
  commit 0123456789ab

RUN           KIND     TO             STARTED (UTC)        TOOK  OUTAGE  OUTCOME
0a1b2c3d4e5f  upgrade  10.7.2+26.5.6  2026-01-31 11:50:00  2m    7.2s    rolled-back
    not healthy within the gate's deadline
    asked by uid 0: trying

Last run, 0a1b2c3d4e5f
STATE        SINCE (UTC)          LASTED
planned      2026-01-31 11:50:00  500ms
gating       2026-01-31 11:50:00  2m
rolled-back  2026-01-31 11:52:00
snapshot 0a1b2c3d4e5f

Not tried again by itself
  10.7.2+26.5.6  rolled-back  not healthy
    $ warmd retry keycloak 10.7.2+26.5.6

Approved and not used yet
  10.8.0+26.6.0  by uid 1000, 2026-01-31 11:59:00 UTC (60 s ago): read the notes
"""
    )


def test_the_last_state_of_an_unfinished_run_lasts_until_now() -> None:
    going = run(state="gating", ended=None, states=[["planned", at(minutes=1)], ["gating", at(seconds=42)]])
    text = seen(show.history, history(runs=[going], failures=[], approvals=[]), now=NOW)
    assert ["gating", "2026-01-31", "11:59:18", "42.0s"] in [line.split() for line in text.split("\n")]


def test_a_service_that_was_never_touched_has_an_empty_history() -> None:
    text = seen(show.history, history(last_good=None, runs=[], failures=[], approvals=[]), now=NOW)
    assert text == "keycloak: no version is known to be good yet\n  No run yet.\n"


def test_old_runs_are_counted_and_not_shown() -> None:
    many = [run(id=f"{n:012}", detail="", asked_by="") for n in range(20)]
    text = seen(show.history, history(runs=many), now=NOW)
    assert "5 older runs in --json" in text
    assert "000000000004" not in text
    assert "000000000005" in text


# --- the others ----------------------------------------------------------------------------------


def alert(**more: Any) -> dict[str, Any]:
    body = {
        "severity": "info",
        "summary": "keycloak: 10.8.0+26.6.0 held-manual-migration: release/10.8.0 is to be read first",
        "detail": "notes: release/10.8.0 is to be read first\napp-major: major 26 -> 27\nIt stays.",
        "opened_at": at(hours=5),
        "notes": [{"path": "release/10.8.0", "sha256": "00", "text": "Export the index.\nThen go on."}],
        "commands": ["warmd plan keycloak", "warmd approve keycloak 10.8.0+26.6.0 --why '...'"],
    }
    return body | more


def test_alerts_say_what_since_when_and_what_to_type() -> None:
    assert seen(show.alerts, [alert()], now=NOW) == (
        """\
info  keycloak: 10.8.0+26.6.0 held-manual-migration: release/10.8.0 is to be read first
    since 2026-01-31 07:00:00 UTC (5 h ago)
    | app-major: major 26 -> 27
    | It stays.
    read release/10.8.0
    $ warmd plan keycloak
    $ warmd approve keycloak 10.8.0+26.6.0 --why '...'

1 alert open
"""
    )


def test_notes_are_shown_in_full_where_one_service_is_asked_for() -> None:
    text = seen(show.alerts, [alert()], now=NOW, texts=True)
    assert "    read release/10.8.0\n    | Export the index.\n    | Then go on.\n" in text
    binary = alert(notes=[{"path": "release/10.8.0", "sha256": "00", "text": None}])
    assert "| (not text, or too big)" in seen(show.alerts, [binary], now=NOW, texts=True)


def test_the_oldest_alert_stands_first() -> None:
    text = seen(show.alerts, [alert(summary="new", opened_at=at(hours=1)), alert(summary="old")], now=NOW)
    assert text.index("old") < text.index("new")
    assert text.endswith("2 alerts open\n")


def test_without_alerts_it_says_so() -> None:
    assert seen(show.alerts, [], now=NOW) == "No alert is open.\n"


SNAPSHOT = {
    "id": "0a1b2c3d4e5f",
    "node": "n1",
    "at": at(days=2),
    "version": "10.7.1+26.5.6",
    "run": "0a1b2c3d4e5f",
    "volumes": ["sso_data", "sso_conf"],
    "archive_bytes": 1_234_567,
    "data_bytes": 45_678_901,
    "files": 321,
    "sealed": True,
}


def test_snapshots_are_listed_with_size_and_whether_they_were_verified() -> None:
    assert seen(
        show.snapshots, [SNAPSHOT, SNAPSHOT | {"id": "b" * 12, "sealed": False}], "keycloak", now=NOW
    ) == (
        """\
SNAPSHOT      TAKEN (UTC)                      VERSION        DATA     ON DISK  FILES  STATE
0a1b2c3d4e5f  2026-01-29 12:00:00  2 days ago  10.7.1+26.5.6  45.7 MB  1.2 MB   321    verified
    volumes: sso_data, sso_conf
bbbbbbbbbbbb  2026-01-29 12:00:00  2 days ago  10.7.1+26.5.6  45.7 MB  1.2 MB   321    not verified
    volumes: sso_data, sso_conf

2 snapshots. To put one back: warmd restore keycloak bbbbbbbbbbbb
"""
    )
    assert seen(show.snapshots, [], "keycloak", now=NOW) == "keycloak has no snapshot.\n"


def test_before_a_restore_it_says_what_is_replaced_lost_and_kept() -> None:
    answer = {
        "service": "keycloak",
        "stack": "sso",
        "kind": "restore",
        "current": "10.7.2+26.5.6",
        "steps": ["stop sso", "swap"],
        "outage": "about 9s",
        "snapshot": SNAPSHOT,
    }
    text = seen(show.preview, answer, now=NOW, quarantine="/var/lib/warmd/services/keycloak/quarantine")
    assert text == (
        """\
keycloak (stack sso): restore of snapshot 0a1b2c3d4e5f
  The snapshot was taken 2026-01-29 12:00:00 UTC (2 days ago).
  replaced:  the data in sso_data, sso_conf
  by:        45.7 MB in 321 files
  version:   10.7.2+26.5.6 -> 10.7.1+26.5.6
  lost:      everything written since 2026-01-29 12:00:00 UTC (2 days ago) is no longer
             in the service
  kept:      the replaced data is moved, not deleted, to
             /var/lib/warmd/services/keycloak/quarantine (or, where that is another disk, to where
             its restore.json says), for 7 days at least

  1. stop sso
  2. swap

The service is down meanwhile. Expected outage: about 9s
"""
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (run(state="committed", detail=""), "upgrade 10.7.1+26.5.6 -> 10.7.2+26.5.6: committed"),
        (run(), "version and data are the old ones again"),
        (run(kind="restore"), "the snapshot's data and version are back"),
        (run(state="interrupted"), "the old version runs on its untouched data"),
        (run(state="failed-unchanged"), "it failed before anything was touched"),
        (run(state="stuck"), "next: warmd alerts keycloak"),
        (run(state="gating", ended=None), "it is not over; the daemon goes on with it"),
        (run(kind="cold-deploy", from_version=None), "first deploy 10.7.2+26.5.6"),
        (run(), "run 0a1b2c3d4e5f, took 2m, outage 7.2s, snapshot 0a1b2c3d4e5f"),
    ],
)
def test_a_run_ends_with_a_word_about_how(given: dict[str, Any], says: str) -> None:
    assert says in seen(show.ran, given, "keycloak")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "just now"),
        (0, "just now"),
        (89, "89 s ago"),
        (90, "2 min ago"),
        (5399, "90 min ago"),
        (7200, "2 h ago"),
        (172_799, "48 h ago"),
        (172_800, "2 days ago"),
    ],
)
def test_ages_are_as_exact_as_they_are_useful(seconds: float, expected: str) -> None:
    assert base.ago(at(seconds=seconds), NOW) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (0.0, "0ms"),
        (0.43, "430ms"),
        (7.25, "7.2s"),
        (59.94, "59.9s"),
        (132.4, "2m12s"),
        (3723, "1h2m3s"),
    ],
)
def test_durations(seconds: float | None, expected: str) -> None:
    assert base.took(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (45_678_901, "45.7 MB"),
        (123_456_789, "123 MB"),
        (2e12, "2.0 TB"),
    ],
)
def test_sizes(count: int, expected: str) -> None:
    assert base.size(count) == expected


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    show.as_json({"reason": "ü [bold]"})
    assert json.loads(capsys.readouterr().out) == {"reason": "ü [bold]"}


def test_where_nobody_looks_lines_are_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert show.console().width == base.WIDE
    monkeypatch.setenv("COLUMNS", "77")
    assert show.console().width == 77


def test_a_terminal_that_knows_no_ticks_gets_words() -> None:
    raw = io.BytesIO()
    to = Console(file=io.TextIOWrapper(raw, encoding="ascii", errors="replace"), width=100, markup=False)
    show.plan(plan(), to=to, now=NOW)
    to.file.flush()
    text = raw.getvalue().decode()
    assert "ok comparable" in text
    assert "NO notes: " in text
