"""Which upstream version a kernel is made of, by what distributions' kernels say of themselves."""

from __future__ import annotations

import pytest

from sgdataplane.host.kernelversion import RunningKernel, Version, parse, read_running

DEBIAN_12 = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-3 (2026-11-26)"
DEBIAN_13 = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.118-1 (2026-11-20)"
OTHER = "#1 SMP PREEMPT_DYNAMIC @0"


@pytest.mark.parametrize(
    ("release", "build", "expected"),
    [
        pytest.param("6.1.0-57-cloud-amd64", DEBIAN_12, (6, 1, 192), id="debian-12"),
        pytest.param("6.12.118+deb13-amd64", DEBIAN_13, (6, 12, 118), id="debian-13"),
        pytest.param("6.12.118", "#2", (6, 12, 118), id="user-mode-from-debians-source"),
        pytest.param("6.18.44-fc-v657", OTHER, (6, 18, 44), id="a-cloud's"),
        pytest.param("6.8.0-45-generic", "#45-Ubuntu SMP PREEMPT_DYNAMIC", (6, 8, None), id="ubuntu"),
        pytest.param("6.8.0-1015-aws", "#16-Ubuntu SMP", (6, 8, None), id="ubuntu-of-a-cloud"),
        pytest.param("5.14.0-503.11.1.el9_5.x86_64", OTHER, (5, 14, None), id="red-hat"),
        pytest.param("6.12.0-55.9.1.el10_0.x86_64", OTHER, (6, 12, None), id="red-hat-10"),
        pytest.param("4.18.5-1.el8.x86_64", OTHER, (4, 18, None), id="built-for-red-hat"),
        pytest.param("6.1.128-136.201.amzn2023.x86_64", OTHER, (6, 1, 128), id="amazon"),
        pytest.param("5.10.134-16.3.al8.x86_64", OTHER, (5, 10, 134), id="alibaba"),
        pytest.param("5.15.153.1-microsoft-standard-WSL2", OTHER, (5, 15, 153), id="microsoft"),
        pytest.param("6.19.0-rc3", OTHER, (6, 19, 0), id="before-a-release"),
        pytest.param("6.19.0", OTHER, (6, 19, 0), id="the-first-of-a-line"),
        pytest.param("7.0-amd64", OTHER, (7, 0, 0), id="two-numbers"),
        pytest.param("6.11.0-061100rc1-generic", "#202", (6, 11, None), id="a-build-number"),
        pytest.param("generic", OTHER, None, id="no-number"),
        pytest.param("6", OTHER, None, id="one-number"),
        pytest.param("99999.1.1", OTHER, None, id="no-version-of-linux"),
        pytest.param("", "", None, id="nothing"),
    ],
)
def test_a_kernel_says_its_upstream_version(release: str, build: str, expected: Version | None) -> None:
    assert parse(release, build) == expected


def test_words_are_of_a_whole_version() -> None:
    assert [RunningKernel("r", version).words for version in ((6, 1, 192), (6, 8, None), None)] == [
        "6.1.192",
        None,
        None,
    ]


def test_this_kernel_is_one_of_linux() -> None:
    assert read_running().version is not None
