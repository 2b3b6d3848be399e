"""Every error that this package raises on purpose: whose fault it is, and what stays in force.

    SgDataplaneError
      StateFileError      the input is wrong: refused whole, the previous policy stays     (problems)
        ConfigError       the agent's configuration is wrong, likewise
      LimitError          the input is right, but larger than we or nftables can hold      (subject, limit, actual)
      KernelError         the kernel refused: nothing was changed                          (detail, operation, origin)
        NotFoundError  ExistsError  BusyError
        UnsupportedError  the kernel lacks a feature                                       (feature, needs)
          HeldError       a change would keep the kernel busy for too long                 (seconds, most, cause)
        PrivilegeError    we aren't root, or lack a capability                             (capability, run)
      HostError           an operation on a link, namespace, sysctl or conntrack failed    (subject, detail)
        SilentError       nobody says what is in force at a place
      BindingError        an interface can't be bound to an ENI: nothing was changed       (problem)
      LabError            a lab or a replay can't use what it was given                    (subject, detail)
      PlatformError       a verb needs Linux, and this system lacks something               (verb, missing)
      ExtraError          a package isn't installed that only an extra of ours needs       (package, extra)
      MarksError          a change has to wait until marks of earlier policies are cleared (sessions, stamp)
      EndpointError       the API can't be served at an address, or doesn't answer there   (subject, detail)
      TrialError          a trial can't do what was asked                                  (name, detail)
      StoreError          the control plane's store refuses or can't be used: store/interface.py
      RefusedError        the API refuses a call: control/http/client.py
    TerminatedError       SIGTERM, treated as Ctrl-C is: a KeyboardInterrupt, and no error
    InternalError         a bug of ours; no SgDataplaneError, so that only main() catches it
      ProofError          a compiled table isn't what the specification says: refused, the previous policy stays
      ContainedError      something unforeseen in one namespace; the other namespaces went on

Owns the tree and the form of the messages: lines of our own, in which text of others is made visible (visible.py). A
message names the place, the value and what would be right.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.visible import visible, visible_block, visible_lines


class SgDataplaneError(Exception):
    """Base of all expected errors. `str()` is one block for a person, without a traceback."""


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """A place in the input."""

    file: str = ""
    line: int = 0
    """From 1 on; 0 if it is unknown."""
    pointer: str = ""
    """A JSON pointer (RFC 6901)."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return " ".join(part for part in (place, self.pointer) if part)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with the input."""

    where: Where
    code: str
    """The cloud's error code, or one of our own like it."""
    message: str
    """What is wrong."""
    value: str = ""
    """The text that is wrong."""
    expected: str = ""
    """What would be right."""
    excerpt: tuple[str, int] = ("", 0)
    """The line of the input as it is shown, and the column in it, from 0 on, where it can't be read."""

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.message}"]
        if str(self.where):
            lines.append(f"  at:       {self.where}")
        if self.excerpt[0]:
            lines += [f"  line:     {self.excerpt[0]}", f"            {' ' * self.excerpt[1]}^"]
        if self.value:
            lines.append(f"  value:    {self.value}")
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        return visible_lines(*lines)


class StateFileError(SgDataplaneError):
    """The state was refused whole.

    Attributes:
        problems: everything that is wrong with it, in the order of the input.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class ConfigError(StateFileError):
    """The agent's configuration was refused whole, as a state is."""


class LimitError(SgDataplaneError):
    """The input is legal, but `subject` has `actual` of something, and we or nftables can hold only `limit`."""

    def __init__(self, subject: str, limit: int, actual: int) -> None:
        super().__init__(subject, limit, actual)
        self.subject, self.limit, self.actual = subject, limit, actual

    def __str__(self) -> str:
        return visible(f"too large: {self.subject} has {self.actual}, the limit is {self.limit}")


class KernelError(SgDataplaneError):
    """The kernel refused an operation, and changed nothing.

    Attributes:
        operation: what was refused, as nft would write it.
        origin: the user's rule that it comes from; "" if it comes from no rule.
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
    """The operation names an object that doesn't exist."""


class ExistsError(KernelError):
    """An object or element already exists, with another value."""


class BusyError(KernelError):
    """An object is still in use."""


class UnsupportedError(KernelError):
    """The kernel lacks `feature`; `needs` is what provides it."""

    def __init__(self, feature: str, needs: str) -> None:
        super().__init__(f"{feature} is not available here; it needs {needs}")
        self.feature, self.needs = feature, needs


class PlatformError(SgDataplaneError):
    """The verb `verb` needs Linux; this system lacks `missing`."""

    def __init__(self, verb: str, missing: str) -> None:
        super().__init__(verb, missing)
        self.verb, self.missing = verb, missing

    def __str__(self) -> str:
        what = f"`sgdp {self.verb}` needs Linux: this system has no {self.missing}"
        return visible(f"{what}. Verbs that only read a state run anywhere")


def module_needed(module: str) -> str:
    """Return `needs` of an UnsupportedError for a kernel module that isn't loaded: which one, and how to load it."""
    at_boot = "at each boot: a line in /etc/modules-load.d, or the package's file, /usr/lib/modules-load.d"
    return f"the kernel module {module} (now: `modprobe {module}`; {at_boot}/sgdataplane.conf)"


class HeldError(UnsupportedError):
    """A change would keep the kernel busy for `seconds`, more than `most`, because of `cause`. It was not begun."""

    def __init__(self, seconds: float, most: float, cause: str, needs: str) -> None:
        super().__init__(f"a change that keeps the kernel busy for {seconds:,.0f} s", needs)
        self.seconds, self.most, self.cause = seconds, most, cause

    def __str__(self) -> str:
        return visible_lines(
            f"refused: this change would hold the kernel for about {self.seconds:,.0f} s; the most is {self.most:g} s",
            f"  cause: {self.cause}",
            f"  needs: {self.needs}",
            "  nothing was changed; the previous policy stays in force",
        )


class PrivilegeError(KernelError):
    """The caller lacks `capability`; `run` is the command that would work."""

    def __init__(self, capability: str, run: str = "") -> None:
        super().__init__(f"this needs {capability}")
        self.capability, self.run = capability, run

    def __str__(self) -> str:
        hint = f"  run: {self.run}" if self.run else "  run it as root"
        return visible_lines(f"not permitted: this needs {self.capability}", hint)


class HostError(SgDataplaneError):
    """An operation on a link, namespace, sysctl or conntrack failed.

    Attributes:
        subject: what it was done to.
        detail: why it failed.
    """

    def __init__(self, subject: str, detail: str) -> None:
        super().__init__(subject, detail)
        self.subject, self.detail = subject, detail

    def __str__(self) -> str:
        return visible(f"{self.subject}: {self.detail}")


class MarksError(SgDataplaneError):
    """A change has to wait until marks of earlier policies are cleared, which the next policy could take for its own.

    Attributes:
        sessions: how many sessions are searched for such marks.
        stamp: that of the policy in force.
    """

    def __init__(self, sessions: int, stamp: object = None) -> None:
        super().__init__(sessions, stamp)
        self.sessions, self.stamp = sessions, stamp

    def __str__(self) -> str:
        return (
            f"marks of earlier policies are being cleared from {self.sessions:,} sessions; "
            "the previous policy stays in force until that is done"
        )


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, where a command ends by it as by Ctrl-C: it undoes or completes what it had begun."""


class EndpointError(SgDataplaneError):
    """The API can't be served at an address, or doesn't answer there.

    Attributes:
        subject: the address or file.
        detail: why.
    """

    def __init__(self, subject: str, detail: str) -> None:
        super().__init__(subject, detail)
        self.subject, self.detail = subject, detail

    def __str__(self) -> str:
        return visible(f"{self.subject}: {self.detail}")


class SilentError(HostError):
    """Nobody says what is in force at a place."""


class BindingError(SgDataplaneError):
    """An interface can't be bound to an ENI as asked, or the record of bindings can't be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return str(self.problem)


class LabError(SgDataplaneError):
    """A lab or a replay can't use what it was given.

    There is no such lab or node, no probe can run, or it is no capture.
    """

    def __init__(self, subject: str, detail: str) -> None:
        super().__init__(subject, detail)
        self.subject, self.detail = subject, detail

    def __str__(self) -> str:
        return visible(f"{self.subject}: {self.detail}")


class TrialError(SgDataplaneError):
    """A trial can't do what was asked.

    Attributes:
        is_missing: there is no such trial.
    """

    def __init__(self, name: str, detail: str, *, is_missing: bool = False) -> None:
        super().__init__(name, detail)
        self.name, self.detail, self.is_missing = name, detail, is_missing

    def __str__(self) -> str:
        return visible(f"trial {self.name}: {self.detail}" if self.name else self.detail)


class ExtraError(SgDataplaneError):
    """The package `package` isn't installed; it comes with our extra `extra`."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)
        self.package, self.extra = package, extra

    def __str__(self) -> str:
        return visible_lines(
            f"this needs the package {self.package}, which is not installed",
            f"  install {_find_package(self.extra)}sgdataplane[{self.extra}]: pip install 'sgdataplane[{self.extra}]'",
        )


def _find_package(extra: str) -> str:
    """Return the Debian package that has an extra, in words; "" if none has it."""
    return "the Debian package sgdataplane-api, or " if extra == "api" else ""


class InternalError(Exception):
    """An invariant of this package doesn't hold: a bug (exit code 70)."""


class ContainedError(InternalError):
    """Something unforeseen happened in one namespace.

    It is a bug, something that root of that namespace has done, or a lack of memory. It is reported for that namespace,
    and the other namespaces went on.
    """

    def __init__(self, error: Exception, place: str) -> None:
        super().__init__(error, place)
        self.error, self.place = error, place

    def __str__(self) -> str:
        if isinstance(self.error, MemoryError):
            return visible(f"no memory was left (in {self.place})")
        kind = type(self.error).__name__
        return visible(
            f"unexpected error: {kind}: {self.error} (in {self.place}); a bug in sgdataplane, or an odd namespace"
        )


class ProofError(InternalError):
    """A compiled table was refused, because it doesn't do what the specification says.

    Code that puts policies in force may catch this error: nothing was changed.

    Attributes:
        difference: a packet that shows it, or what is wrong if no packet does.
    """

    def __init__(self, difference: str) -> None:
        super().__init__(difference)
        self.difference = difference

    def __str__(self) -> str:
        return f"the compiled ruleset is wrong, and was refused\n{visible_block(self.difference)}"
