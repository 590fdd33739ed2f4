"""The laws of versions: one total order, one spelling back, and nothing hostile let through."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from warmd.core.versions import Version

NUMBERS = st.integers(0, 10**18 - 1) | st.integers(0, 3)
APPS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z._-]{0,20}", fullmatch=True) | st.sampled_from(
    ["1", "01", "1.0", "1.10", "1.9", "v1", "1a", "a1", "a", "A"]
)


@st.composite
def versions(draw: st.DrawFn) -> Version:
    recipe = ".".join(str(draw(NUMBERS)) for _ in range(3))
    app = draw(st.none() | APPS)
    return Version.of(draw(st.sampled_from(["", "v"])) + recipe + (f"+{app}" if app is not None else ""))


# --- reading


@pytest.mark.parametrize(
    ("text", "recipe", "app"),
    [
        ("10.7.1+26.6.2", (10, 7, 1), "26.6.2"),
        ("0.0.0", (0, 0, 0), None),
        ("v1.2.3", (1, 2, 3), None),
        ("1.2.3+v2.0_rc-1", (1, 2, 3), "v2.0_rc-1"),
        ("1.2.3+007", (1, 2, 3), "007"),
        ("999999999999999999.0.0", (999999999999999999, 0, 0), None),
    ],
)
def test_a_version_is_read_as_it_is_spelled(text: str, recipe: tuple[int, int, int], app: str | None) -> None:
    version = Version.parse(text)
    assert version is not None
    assert (version.text, str(version), version.recipe, version.app) == (text, text, recipe, app)


@pytest.mark.parametrize(
    "text",
    [
        *("", "v", "latest", "1", "1.2", "1.2.3.4", "1.2.3-rc1", "1.2.3-rc1+4", "01.2.3", "1.02.3", "1.2.03"),
        *("V1.2.3", "vv1.2.3", "-1.2.3", "+1.2.3", "1.2.3+", "1.2.3++4", "1.2.3+4+5", "1.2.3+.4", "1.2.3+-4"),
        *(" 1.2.3", "1.2.3 ", "1.2.3\n", "1.2.3+4\n", "1.2.3\0", "1.2.3+a b", "1.2.3+../x", "1.2.3+a/b"),
        *("1.2.3+$(id)", "1.2.3+`id`", "--upload-pack=1.2.3", "\uff11.2.3", "1.2.\u0663", "1.2.3+\u0663"),
        *("1.2.3+caf\xe9", "1.2.3+\udcff", "1000000000000000000.0.0", "1.2.3+" + "9" * 129, "1" * 100_000),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_anything_else_is_no_version(text: str) -> None:
    assert Version.parse(text) is None
    with pytest.raises(ValueError, match="not a version"):
        Version.of(text)


@given(st.text())
def test_no_text_makes_reading_fail_and_what_is_read_is_plain(text: str) -> None:
    version = Version.parse(text)
    if version is not None:
        assert version.text == text
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set(" /\\'\"$`;&|<>*?~#")


@given(versions())
def test_what_was_read_is_read_the_same_again(version: Version) -> None:
    assert Version.parse(version.text) == Version.of(str(version)) == version


@given(versions())
def test_a_version_is_rebuilt_from_its_parts(version: Version) -> None:
    rebuilt = ".".join(map(str, version.recipe)) + (f"+{version.app}" if version.app is not None else "")
    assert version.text.removeprefix("v") == rebuilt


# --- the order


@given(versions(), versions())
def test_of_two_versions_just_one_of_lower_same_higher_holds(a: Version, b: Version) -> None:
    assert [a < b, a == b, a > b].count(True) == 1
    assert (a <= b) == (not a > b)
    assert (a >= b) == (not a < b)
    assert (a < b) == (b > a)


@given(versions(), versions(), versions())
def test_the_order_goes_on_over_a_third(a: Version, b: Version, c: Version) -> None:
    low, middle, high = sorted([a, b, c])
    assert low <= middle <= high
    assert low <= high


@given(st.lists(versions(), max_size=6))
def test_sorting_does_not_depend_on_the_order_before(found: list[Version]) -> None:
    assert all(
        sorted(other) == sorted(found) for other in itertools.islice(itertools.permutations(found), 24)
    )


@given(versions(), versions())
def test_the_application_only_breaks_ties_of_the_recipe(a: Version, b: Version) -> None:
    assume(a.recipe != b.recipe)
    assert (a < b) == (a.recipe < b.recipe)


@given(versions(), versions())
def test_equal_ones_hash_alike(a: Version, b: Version) -> None:
    assert a != b or hash(a) == hash(b)


@given(NUMBERS, NUMBERS)
def test_numbers_of_the_application_are_compared_by_value(a: int, b: int) -> None:
    assume(a != b)
    assert (Version.of(f"1.0.0+2.{a}.5") < Version.of(f"1.0.0+2.{b}.5")) == (a < b)


LADDER = [
    *("9.9.9+99", "10.0.0", "v10.0.0", "10.0.0+a", "10.0.0+1", "10.0.0+1.a", "10.0.0+1.9", "10.0.0+1.10"),
    *("10.0.0+2", "v10.0.0+2", "10.0.1+1", "10.1.0", "10.10.0", "11.0.0"),
]


@pytest.mark.parametrize(("lower", "higher"), list(itertools.pairwise(LADDER)))
def test_each_rung_is_above_the_one_before(lower: str, higher: str) -> None:
    assert Version.of(lower) < Version.of(higher)


# --- the same version in another spelling


@given(versions(), versions())
def test_same_as_ignores_a_leading_v_and_nothing_else(a: Version, b: Version) -> None:
    assert a.same_as(b) == b.same_as(a) == (a.text.removeprefix("v") == b.text.removeprefix("v"))
    assert a.same_as(Version.of("v" + a.text.removeprefix("v")))
    assert not a.same_as(None)


@given(versions(), versions())
def test_nothing_lies_between_two_spellings_of_one_version(a: Version, b: Version) -> None:
    bare = Version.of(a.text.removeprefix("v"))
    spelled = Version.of(f"v{bare.text}")
    assert bare < spelled
    assert not bare < b < spelled


# --- the application's major


@pytest.mark.parametrize(
    ("text", "major"),
    [
        *(("1.0.0+26.5.6", 26), ("1.0.0+v3.1", 3), ("1.0.0+RELEASE.2024-01-02", 2024), ("1.0.0+007.1", 7)),
        *(("1.0.0", None), ("1.0.0+stable", None)),
    ],
)
def test_the_application_s_major_is_its_first_number(text: str, major: int | None) -> None:
    assert Version.of(text).app_major == major


@given(versions())
def test_an_application_without_a_digit_has_no_major(version: Version) -> None:
    assert (version.app_major is None) == (not any(c.isdigit() for c in version.app or ""))
