"""Every error this package raises on purpose, whose fault it is, and what stays in force.

    SgDataplaneError
      StateFileError      the input is wrong: refused whole, the previous policy stays    (problems)
        ConfigError       the agent's configuration, likewise
      LimitError          right, but more than we or nftables hold                        (subject, limit, actual)
      KernelError         the kernel refused: nothing was changed                         (detail, operation, origin)
        NotFoundError  ExistsError  BusyError
        UnsupportedError  the kernel lacks a feature                                      (feature, needs)
          HeldError       it would be held too long by its own check of chains            (seconds, most)
        PrivilegeError    not root, or a capability is missing                            (capability)
      HostError           links, namespaces, sysctls, conntrack                           (subject, detail)
      BindingError        an interface can't be bound to an ENI as asked: nothing changed (problem)
      LabError            what a lab or a replay was given can't be used                  (subject, detail)
    InternalError         an invariant of ours broke; not an SgDataplaneError: never caught but at the top
      ProofError          a compiled table isn't what the specification says: refused, the previous policy stays
      ContainedError      something unforeseen in one namespace, which ended there

Owns the tree and its wording: lines of ours, in which what others wrote is visible (visible.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.visible import visible, visible_block, visible_lines


class SgDataplaneError(Exception):
    """Base of all expected errors; `str()` is what a person reads, one block, no traceback."""


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """A place in the input: file, 1-based line if known (0 = unknown), JSON pointer (RFC 6901)."""

    file: str = ""
    line: int = 0
    pointer: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return " ".join(part for part in (place, self.pointer) if part)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with the input: the cloud's code (or ours), what, which value, what would be right."""

    where: Where
    code: str
    message: str
    value: str = ""
    expected: str = ""

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.message}"]
        if str(self.where):
            lines.append(f"  at:       {self.where}")
        if self.value:
            lines.append(f"  value:    {self.value}")
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        return visible_lines(*lines)


class StateFileError(SgDataplaneError):
    """The state was refused whole; `problems` holds everything found wrong, in the order of the input."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class ConfigError(StateFileError):
    """The agent's configuration was refused whole, as a state is."""


class LimitError(SgDataplaneError):
    """A legal input that is larger than what we or nftables can hold."""

    def __init__(self, subject: str, limit: int, actual: int) -> None:
        super().__init__(subject, limit, actual)
        self.subject, self.limit, self.actual = subject, limit, actual

    def __str__(self) -> str:
        return visible(f"too large: {self.subject} has {self.actual}, the limit is {self.limit}")


class KernelError(SgDataplaneError):
    """The kernel refused an operation; the transaction changed nothing.

    `operation` is the nft line that was refused, `origin` the user's rule it came from ("" if it is ours).
    """

    def __init__(self, detail: str, *, operation: str = "", origin: str = "") -> None:
        super().__init__(detail)
        self.detail, self.operation, self.origin = detail, operation, origin

    def __str__(self) -> str:
        lines = [f"kernel refused: {self.detail}"]
        if self.operation:
            lines.append(f"  operation: {self.operation}")
        if self.origin:
            lines.append(f"  from rule: {self.origin}")
        lines.append("  nothing was changed; the previous policy stays in force")
        return visible_lines(*lines)


class NotFoundError(KernelError):
    """An object that the operation names does not exist."""


class ExistsError(KernelError):
    """An object or element exists already with another value."""


class BusyError(KernelError):
    """An object is still in use."""


class UnsupportedError(KernelError):
    """The kernel lacks `feature`; `needs` says what provides it."""

    def __init__(self, feature: str, needs: str) -> None:
        super().__init__(f"{feature} is not available here; it needs {needs}")
        self.feature, self.needs = feature, needs


def module_needed(module: str) -> str:
    """What an UnsupportedError `needs` where the kernel was asked for a module, and did not load it."""
    for_ever = "for each boot: a line in /etc/modules-load.d, or the package's file, /usr/lib/modules-load.d"
    return f"the kernel module {module} (now: `modprobe {module}`; {for_ever}/sgdataplane.conf)"


class HeldError(UnsupportedError):
    """A change would hold the kernel for `seconds`, more than `most`; `cause` says by what. It was not begun."""

    def __init__(self, seconds: float, most: float, cause: str, needs: str) -> None:
        super().__init__(f"a change that holds the kernel for {seconds:,.0f} s", needs)
        self.seconds, self.most, self.cause = seconds, most, cause

    def __str__(self) -> str:
        return visible_lines(
            f"refused: this change would hold the kernel for about {self.seconds:,.0f} s, the most is {self.most:g} s",
            f"  cause: {self.cause}",
            f"  needs: {self.needs}",
            "  nothing was changed; the previous policy stays in force",
        )


class PrivilegeError(KernelError):
    """The caller lacks `capability`; `run` is the command that would have it."""

    def __init__(self, capability: str, run: str = "") -> None:
        super().__init__(f"this needs {capability}")
        self.capability, self.run = capability, run

    def __str__(self) -> str:
        hint = f"  run: {self.run}" if self.run else "  run it as root"
        return visible_lines(f"not permitted: this needs {self.capability}", hint)


class HostError(SgDataplaneError):
    """A link, namespace, sysctl or conntrack operation failed."""

    def __init__(self, subject: str, detail: str) -> None:
        super().__init__(subject, detail)
        self.subject, self.detail = subject, detail

    def __str__(self) -> str:
        return visible(f"{self.subject}: {self.detail}")


class BindingError(SgDataplaneError):
    """An interface can't be bound to an ENI as asked, or the record of what is bound can't be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return str(self.problem)


class LabError(SgDataplaneError):
    """A lab or a replay can't use what it was given: no such lab or node, no probe that could run, no capture."""

    def __init__(self, subject: str, detail: str) -> None:
        super().__init__(subject, detail)
        self.subject, self.detail = subject, detail

    def __str__(self) -> str:
        return visible(f"{self.subject}: {self.detail}")


class InternalError(Exception):
    """An invariant of ours broke. A bug: exit code 70."""


class ContainedError(InternalError):
    """Whatever happened in one namespace that nobody foresaw: a bug, or what root of that namespace has done to it. It
    is told as that namespace's, and the others went on."""

    def __init__(self, error: Exception, place: str) -> None:
        super().__init__(error, place)
        self.error, self.place = error, place

    def __str__(self) -> str:
        kind = type(self.error).__name__
        return visible(
            f"not foreseen: {kind}: {self.error} (in {self.place}); a bug of ours, or something odd in this namespace"
        )


class ProofError(InternalError):
    """A compiled table was refused, since it doesn't do what the specification says. `difference` shows one packet.
    Whoever puts policies in force may catch this one: nothing was changed."""

    def __init__(self, difference: str) -> None:
        super().__init__(difference)
        self.difference = difference

    def __str__(self) -> str:
        return f"the compiled ruleset is wrong, and was refused\n{visible_block(self.difference)}"
