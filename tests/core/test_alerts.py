"""What an alert file says, and that it says the same when it is written again."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from warmd.core import gate, notices, rules
from warmd.core.alerts import Alert, Kind, Severity, Status, fingerprint, json_schema, open_alert, schema_text
from warmd.core.machine import State
from warmd.core.model import Note

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
INSTALLATION = "0123456789abcdef0123456789abcdef"


def opened(**changes: Any) -> Alert:
    said: dict[str, Any] = {
        "installation": INSTALLATION,
        "host": "swarm-1",
        "seq": 41,
        "kind": "held-manual-migration",
        "severity": "info",
        "service": "keycloak",
        "stack": "sso",
        "summary": "keycloak: 10.8.0+26.6.0 held-manual-migration: it has notes to read",
        "detail": "notes: release/10.8.0+26.6.0 has to be read",
        "current": "10.7.2+26.5.6",
        "candidate": "10.8.0+26.6.0",
        "notes": (Note("release/10.8.0+26.6.0", "ab" * 32, "search backend was removed\n"),),
        "run": None,
        "at": AT,
        "commands": ("warmd plan keycloak", "warmd approve keycloak 10.8.0+26.6.0 --why '...'"),
    }
    return open_alert(**said | changes)


def test_an_open_alert_says_all_that_the_schema_promises() -> None:
    alert = opened()
    assert alert.to_json() == {
        "schema": 1,
        "installation": INSTALLATION,
        "host": "swarm-1",
        "id": alert.id,
        "seq": 41,
        "fingerprint": alert.fingerprint,
        "state": "open",
        "kind": "held-manual-migration",
        "severity": "info",
        "service": "keycloak",
        "stack": "sso",
        "summary": "keycloak: 10.8.0+26.6.0 held-manual-migration: it has notes to read",
        "detail": "notes: release/10.8.0+26.6.0 has to be read",
        "current": "10.7.2+26.5.6",
        "candidate": "10.8.0+26.6.0",
        "notes": [
            {"path": "release/10.8.0+26.6.0", "sha256": "ab" * 32, "text": "search backend was removed\n"}
        ],
        "run": None,
        "opened_at": "2026-01-31T12:00:00.250000Z",
        "resolved_at": None,
        "resolution": None,
        "commands": ["warmd plan keycloak", "warmd approve keycloak 10.8.0+26.6.0 --why '...'"],
    }


def test_the_resolved_file_is_of_the_same_opening_and_says_how_it_ended() -> None:
    alert = opened()
    later = AT + timedelta(hours=1)
    over = alert.resolve(at=later, resolution="10.8.0+26.6.0 runs", seq=57)
    assert over.to_json() == alert.to_json() | {
        "state": "resolved",
        "seq": 57,
        "resolved_at": "2026-01-31T13:00:00.250000Z",
        "resolution": "10.8.0+26.6.0 runs",
        "commands": [],
    }


def test_the_file_name_shows_time_service_kind_and_id() -> None:
    alert = opened()
    assert alert.file_name == f"20260131T120000.250000Z-keycloak-held-manual-migration-{alert.id[:8]}.json"
    over = alert.resolve(at=AT + timedelta(hours=1), resolution="gone", seq=42)
    assert over.file_name == f"20260131T130000.250000Z-keycloak-held-manual-migration-{alert.id[:8]}.json"


def test_an_alert_of_the_daemon_as_a_whole_names_no_service() -> None:
    alert = opened(service=None, stack=None, kind="docker-unreachable", candidate=None)
    assert "-daemon-docker-unreachable-" in alert.file_name
    assert alert.to_json()["service"] is None


def test_written_again_it_has_the_same_name_and_says_the_same() -> None:
    assert (opened().file_name, opened().to_json()) == (opened().file_name, opened().to_json())


def test_read_back_from_the_journal_it_is_the_same() -> None:
    for alert in (opened(), opened().resolve(at=AT + timedelta(days=1), resolution="gone", seq=2)):
        assert Alert.from_json(json.loads(json.dumps(alert.to_json()))) == alert


def test_times_are_utc_whatever_they_came_in() -> None:
    there = AT.astimezone(timezone(timedelta(hours=2)))
    assert opened(at=there) == opened()
    assert opened(at=there).file_name == opened().file_name
    over = opened().resolve(at=there + timedelta(seconds=1), resolution="gone", seq=2)
    assert over.to_json()["resolved_at"] == "2026-01-31T12:00:01.250000Z"


def test_a_clock_that_was_set_back_does_not_keep_an_alert_open() -> None:
    alert = opened()
    over = alert.resolve(at=AT - timedelta(days=1), resolution="gone", seq=42)
    assert over.resolved_at == AT + timedelta(microseconds=1)
    assert over.file_name != alert.file_name


@given(st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=4000)))
def test_the_two_files_of_an_opening_never_have_one_name(after: timedelta) -> None:
    alert = opened()
    over = alert.resolve(at=AT + after, resolution="gone", seq=42)
    assert over.file_name != alert.file_name
    assert (over.id, over.fingerprint) == (alert.id, alert.fingerprint)
    assert sorted((over.file_name, alert.file_name))[0] == alert.file_name


def test_opened_again_it_is_another_opening_of_the_same_condition() -> None:
    first, second = opened(), opened(at=AT + timedelta(microseconds=1))
    assert first.fingerprint == second.fingerprint
    assert first.id != second.id


@pytest.mark.parametrize(
    "change",
    [
        {"installation": "f" * 32},
        {"service": "proxy"},
        {"service": None},
        {"kind": "held-major"},
        {"candidate": "11.0.0"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_installation_service_kind_or_candidate_is_another_condition(change: dict[str, Any]) -> None:
    assert opened(**change).fingerprint != opened().fingerprint
    assert opened(**change).id != opened().id


@pytest.mark.parametrize(
    "change",
    [
        {"summary": "other"},
        {"host": "other"},
        {"seq": 99},
        {"current": None},
        {"severity": "critical"},
        {"run": "r"},
    ],
)
def test_nothing_else_makes_another_condition(change: dict[str, Any]) -> None:
    assert opened(**change).fingerprint == opened().fingerprint


def test_no_candidate_is_written_the_same_however_it_is_said() -> None:
    assert opened(candidate="").candidate is None
    common = {"installation": INSTALLATION, "service": "sso", "kind": "drift"}
    assert fingerprint(**common, candidate="") == fingerprint(**common, candidate=None)
    assert re.fullmatch(r"[0-9a-f]{32}", fingerprint(**common, candidate=None))


def test_a_summary_is_one_line() -> None:
    assert opened(summary="a\n  b\tc ").summary == "a b c"


@pytest.mark.parametrize("change", [{"kind": "held-bad-mood"}, {"severity": "panic"}])
def test_kinds_and_severities_are_those_of_the_schema(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        opened(**change)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"state": "resolved"}, id="resolved without when and how"),
        pytest.param({"resolution": "gone"}, id="open with a resolution"),
        pytest.param({"state": "resolved", "resolution": "gone", "resolved_at": AT}, id="over as it began"),
        pytest.param({"schema": 2}, id="another schema"),
        pytest.param({"opened_at": "2026-01-31T12:00:00"}, id="a time of nowhere"),
        pytest.param({"id": "XYZ"}, id="no id"),
    ],
)
def test_what_contradicts_itself_is_no_alert(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Alert.from_json(opened().to_json() | change)


def test_a_field_that_a_newer_warmd_added_is_passed_over() -> None:
    assert Alert.from_json(opened().to_json() | {"weather": "fine"}) == opened()


def test_alerts_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        opened().seq = 2  # type: ignore[misc]  # that is the point


def test_the_published_schema_is_this_one() -> None:
    code = "from warmd.core.alerts import schema_text as t; print(t(), end='')"
    command = f'python -c "{code}" > docs/alert.schema.json'
    published = (ROOT / "docs/alert.schema.json").read_text()
    assert published == schema_text(), f"run: {command}"


def test_the_schema_promises_every_field_and_enumerates_kinds_severities_and_states() -> None:
    schema = json_schema()
    assert set(schema["required"]) == set(schema["properties"]) == set(opened().to_json())
    definitions = schema["$defs"]
    assert definitions["Kind"]["enum"] == [str(k) for k in Kind]
    assert definitions["Severity"]["enum"] == [str(s) for s in Severity] == ["info", "warning", "critical"]
    assert definitions["Status"]["enum"] == [str(s) for s in Status] == ["open", "resolved"]


def test_every_hold_and_bad_ending_has_a_kind() -> None:
    """A decision that had none could not be told to anybody."""
    named = {v for module in (gate, rules) for v in vars(module).values() if isinstance(v, str)}
    holds = {v for v in named if v.startswith("held-")}
    endings = {State.ROLLED_BACK, State.STUCK, State.INTERRUPTED, State.FAILED_UNCHANGED}
    others = {gate.DRIFT, gate.OWNED_ELSEWHERE}
    assert holds
    assert holds | {e.value for e in endings} | others <= {k.value for k in Kind}


def test_the_severities_of_notices_are_the_schemas() -> None:
    assert {notices.INFO, notices.WARNING, notices.CRITICAL} == {s.value for s in Severity}


def test_the_manual_explains_every_kind_and_field() -> None:
    manual = (ROOT / "docs/alerts.md").read_text()
    missing = [name for name in (*Kind, *json_schema()["properties"]) if f"`{name}`" not in manual]
    assert missing == []


def test_the_examples_of_the_manual_are_alerts_of_this_schema() -> None:
    blocks = re.findall(
        r"^`(\S+\.json)`:\n\n```json\n(.*?)^```$", (ROOT / "docs/alerts.md").read_text(), re.M | re.S
    )
    assert len(blocks) == 2
    first, second = (Alert.from_json(json.loads(text)) for _, text in blocks)
    assert [name for name, _ in blocks] == [first.file_name, second.file_name]
    assert [json.loads(text) for _, text in blocks] == [first.to_json(), second.to_json()]
    assert (
        first.resolve(at=second.resolved_at or AT, resolution=second.resolution or "", seq=second.seq)
        == second
    )
    again = open_alert(
        installation=first.installation,
        host=first.host,
        seq=first.seq,
        kind=first.kind,
        severity=first.severity,
        service=first.service,
        stack=first.stack,
        summary=first.summary,
        detail=first.detail,
        current=first.current,
        candidate=first.candidate,
        notes=[Note(n.path, n.sha256, n.text) for n in first.notes],
        run=first.run,
        at=first.opened_at,
        commands=first.commands,
    )
    assert again == first
