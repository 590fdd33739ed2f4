"""A share of the model test: see tests/stateful/machine.py."""

import pytest

from tests.stateful import shares

pytestmark = [pytest.mark.slow, pytest.mark.crash_too]


@shares.of_file(0)
def test_the_promise_holds_whatever_happens(share: int) -> None:
    shares.run(share)
