from __future__ import annotations

import pytest

from tests.support.run import isolation

QUIET = {"nftables": frozenset({"table a"}), "links": frozenset({"lo"}), "routes": frozenset[str]()}


def test_nothing_changed_is_no_difference() -> None:
    assert isolation.difference(QUIET, dict(QUIET)) == ()


@pytest.mark.parametrize(
    ("after", "lines"),
    [
        pytest.param({**QUIET, "links": frozenset({"lo", "veth0"})}, ("links: came: veth0",), id="a link came"),
        pytest.param({**QUIET, "nftables": frozenset[str]()}, ("nftables: went: table a",), id="a table went"),
        pytest.param(
            {**QUIET, "nftables": frozenset({"table b"})},
            ("nftables: came: table b", "nftables: went: table a"),
            id="a table was replaced",
        ),
    ],
)
def test_what_came_and_what_went_is_named(after: dict[str, frozenset[str]], lines: tuple[str, ...]) -> None:
    assert isolation.difference(QUIET, after) == lines


def test_what_the_kernel_makes_by_itself_is_no_change_until_somebody_uses_it() -> None:
    links = [
        {"ifname": "lo", "flags": ["LOOPBACK"]},
        {"ifname": "tunl0", "flags": ["NOARP"]},
        {"ifname": "sit0", "flags": ["NOARP", "UP", "LOWER_UP"]},
        {"ifname": "veth0", "flags": ["BROADCAST"]},
    ]
    assert set(isolation._made(links)) == {"lo", "sit0", "veth0"}


def test_a_run_is_alive_only_with_its_own_start_time() -> None:
    run = isolation.run_of_this_process()
    assert isolation.is_alive(run)
    assert not isolation.is_alive(run.partition(".")[0] + ".1")


def test_names_of_workers_differ_and_carry_the_run() -> None:
    first, second = (isolation.prefix_of("4711.99", worker) for worker in ("gw0", "gw1"))
    assert (first, second) == ("t4711xgw0", "t4711xgw1")
    assert isolation.SUITE_NAME.fullmatch(f"{first}-12-i-web1")
