"""What `make clients` says of a test of the provider."""

from __future__ import annotations

import pytest

from tools.clients import Outcome

REFUSED = "ErrorCode: InvalidAction.NotFound\nMessage: not found. Action: CreateRole of version 2015-05-01"


@pytest.mark.parametrize(
    ("verdict", "text", "reason"),
    [
        ("PASS", "", ""),
        ("SKIP", "Skipping unsupported region", "skips itself"),
        ("FAIL", REFUSED, "`CreateRole` isn't there"),
        ("", "", "is given up after 5 minutes"),
        (
            "FAIL",
            "  testing.go:705: Step 1 error: Check failed: 'a' expected \x1b[31m",
            "Step 1 error: Check failed: 'a' expected \\x1b[31m",
        ),
        ("FAIL", "", "fails"),
    ],
)
def test_the_reason_of_a_test_that_does_not_pass_is_said(verdict: str, text: str, reason: str) -> None:
    assert Outcome("TestAccOne", verdict, 1.0, text).reason == reason
