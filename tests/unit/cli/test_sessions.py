"""`sgdp sessions`: which arguments are refused, and that root is needed."""

from __future__ import annotations

import os

import pytest

from sgdataplane.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--remote", "10.0.0.0/33"), "argument --remote: '10.0.0.0/33' is not an address or CIDR block"),
        (("--remote", "eni-a"), "argument --remote: 'eni-a' is not an address or CIDR block"),
        (("--protocol", "quic"), "'quic' is not tcp, udp, icmp, icmpv6, gre, all or a number 0..255"),
        (("--port", "65536"), "'65536' is neither a port 0..65535 nor a service"),
        (("--state", "open"), "'OPEN' is none of NONE, SYN_SENT, SYN_RECV, ESTABLISHED"),
        (("--sort", "age"), "'age' is none of eni, remote, port"),
        (("--limit", "0"), "'0' is not a number from 1 up"),
        (("--limit", "many"), "'many' is not a number from 1 up"),
        (("--direction", "in"), "invalid choice: 'in'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_arguments_that_cannot_be_are_usage_errors(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sessions", *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_who_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["sessions"]) == 4
    assert "run: sudo sgdp" in capsys.readouterr().err
