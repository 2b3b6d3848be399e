"""Which faults a kernel has, by its version and by what it says of itself."""

from __future__ import annotations

import pytest

from sgdataplane.host.kernelversion import RunningKernel, Version
from sgdataplane.nft.faults import COMMITS, FAULTS, faults_of

OLD = {"missed-keys", "missed-ranges", "kept-timeouts", "walks-every-path", "walks-other-tables"}


def names(version: Version | None, looking: bool | None, *, is_certain: bool = True) -> set[str]:
    return {one.fault.name for one in faults_of(RunningKernel("r", version), looking) if one.is_certain is is_certain}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        pytest.param((6, 1, 192), OLD, id="debian-12"),
        pytest.param((6, 6, 100), OLD - {"walks-other-tables"}, id="6.6"),
        pytest.param((6, 12, 47), {"missed-keys", "missed-ranges", "walks-every-path"}, id="just-before"),
        pytest.param((6, 12, 48), {"missed-ranges", "walks-every-path"}, id="just-fixed"),
        pytest.param((6, 12, 66), {"missed-ranges"}, id="6.12.66"),
        pytest.param((6, 12, 118), {"missed-ranges"}, id="debian-13"),
        pytest.param((6, 14, 99), {"missed-keys", "missed-ranges", "walks-every-path"}, id="a-line-that-has-ended"),
        pytest.param((6, 16, 7), {"missed-keys", "missed-ranges", "walks-every-path"}, id="6.16.7"),
        pytest.param((6, 16, 8), {"missed-ranges", "walks-every-path"}, id="6.16.8"),
        pytest.param((6, 18, 5), {"missed-ranges", "walks-every-path"}, id="6.18.5"),
        pytest.param((6, 18, 44), {"missed-ranges"}, id="6.18.44"),
        pytest.param((7, 0, 0), set(), id="7.0"),
    ],
)
def test_a_version_has_the_faults_that_were_mended_later(version: Version, expected: set[str]) -> None:
    assert names(version, None) == expected
    assert names(version, None, is_certain=False) == set()


def test_what_a_version_does_not_say_is_only_perhaps_there() -> None:
    """Ubuntu and Red Hat bring fixes back without another version."""
    assert names((6, 8, None), None) == set()
    assert names((6, 8, None), None, is_certain=False) == OLD - {"walks-other-tables"}
    assert names(None, None, is_certain=False) == OLD


@pytest.mark.parametrize(
    ("version", "looking", "is_there"),
    [
        pytest.param((6, 1, 192), True, False, id="a-fix-that-a-distribution-brought-back"),
        pytest.param((6, 18, 44), False, True, id="a-kernel-without-what-its-version-should-have"),
        pytest.param((6, 8, None), False, True, id="a-version-that-does-not-tell"),
        pytest.param(None, True, False, id="no-version"),
    ],
)
def test_a_kernel_that_says_whether_it_looks_again_is_believed(
    version: Version | None, looking: bool, is_there: bool
) -> None:
    assert ("missed-keys" in names(version, looking)) is is_there
    assert "missed-keys" not in names(version, looking, is_certain=False)


def test_each_fault_has_its_source_and_our_answer() -> None:
    for fault in FAULTS:
        found = next(one.as_json() for one in faults_of(RunningKernel("r", None), None) if one.fault is fault)
        assert found["source"] == f"{COMMITS}{fault.commit}"
        assert len(fault.commit) == 12
        assert fault.effect
        assert fault.answer
