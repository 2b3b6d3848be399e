"""`sgdp trace`: which arguments are refused."""

from __future__ import annotations

import pytest

from sgdataplane.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say whose packets to follow with --eni"),
        (["--eni", "eni-a", "--port", "22"], "need --protocol tcp or udp"),
        (["--eni", "eni-a", "--source-port", "22", "--protocol", "icmp"], "--source-port: icmp has no ports"),
        (["--eni", "eni-a", "--protocol", "all"], "leave it out"),
        (["--from", "i-a", "--to", "i-b", "--protocol", "33"], "the lab can't send DCCP"),
        (["--eni", "eni-a", "--seconds", "0"], "'0' is not a number of seconds, above 0 and up to 3,600"),
        (["--eni", "eni-a", "--seconds", "nan"], "'nan' is not a number of seconds"),
        (["--eni", "eni-a", "--count", "-1"], "not a number from 1 up"),
        (["--from", "i-a"], "say which packet: FROM, TO and WHAT"),
        (["--from", "i-a", "--to", "i-b", "--protocol", "tcp"], "--port is needed with tcp"),
        (["--from", "i-a", "--to", "i-b", "--protocol", "icmp", "--eni", "eni-a"], "don't go with FROM and TO"),
        (["i-a", "i-b", "icmp", "--eni", "eni-a"], "don't go with FROM and TO"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["trace", *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
