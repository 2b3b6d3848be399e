"""Which error of the specification a failure becomes."""

from __future__ import annotations

import errno

import pytest

from sgdataplane.cni.plugin import error_of
from sgdataplane.cni.request import CniCode, CniError
from sgdataplane.errors import BindingError, ConfigError, HostError, KernelError, Problem, StateFileError, Where

PROBLEM = Problem(Where("here"), "InvalidEniId.Bound", "the ENI is bound", "eni-a", "another one")
CASES: dict[str, tuple[Exception, CniCode]] = {
    "its own": (CniError(CniCode.LATER, "later"), CniCode.LATER),
    "bound already": (BindingError(PROBLEM), CniCode.REFUSED),
    "no namespace": (BindingError(Problem(Where(), "InvalidNamespace.NotFound", "none")), CniCode.ENVIRONMENT),
    "an ambiguous name": (StateFileError((PROBLEM,)), CniCode.CONFIGURATION),
    "the agent's configuration": (ConfigError((PROBLEM,)), CniCode.LATER),
    "the kernel": (KernelError("no"), CniCode.KERNEL),
    "the host": (HostError("eth0", "no"), CniCode.KERNEL),
    "a file": (PermissionError(errno.EACCES, "no"), CniCode.KERNEL),
    "a bug": (KeyError("x"), CniCode.BUG),
}


@pytest.mark.parametrize(("error", "code"), CASES.values(), ids=CASES)
def test_each_failure_has_its_code(error: Exception, code: CniCode) -> None:
    try:
        raise error
    except Exception as raised:  # noqa: BLE001  # with its traceback, as main() has it
        found = error_of(raised)
    assert found.code is code
    assert found.message
    assert "\n" not in found.message
