"""The OCI hook: it does for engines without CNI, such as podman, what the plugin does for others.

Owns when a hook of a container binds or unbinds. Must not know how.

    bind      at `createRuntime`: the namespace has its interfaces, and nothing runs in it. The container starts only if
              this succeeds. If it fails, nothing stays bound: not every engine calls `unbind` then. With `--early` the
              interface may come later, as with docker from version 28 on: the namespace is closed before it comes.
    unbind    at `poststop`: the container has ended

An engine starts the hook for containers with the annotation `sgdataplane/bind` (docs/containers.md).
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from syslog import LOG_ERR, syslog
from typing import NoReturn

from sgdataplane.attach.manage import describe_attachment
from sgdataplane.cni.plugin import add, config_at, error_of, parser_of, unbind
from sgdataplane.cni.request import MAX_BYTES, read_state
from sgdataplane.errors import HostError, TerminatedError
from sgdataplane.terminal.output import complain, guard_output
from sgdataplane.visible import visible

BIND, UNBIND = "bind", "unbind"


def _interrupt(*_: object) -> NoReturn:
    """Raise TerminatedError; a handler of signals."""
    raise TerminatedError


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the container's state is on standard input."""
    parser = parser_of("sgdataplane-oci", "The OCI hook; container engines run it.")
    words = "bind: when a container is created; unbind: when it has ended"
    parser.add_argument("step", choices=(BIND, UNBIND), help=words)
    parser.add_argument("--early", action="store_true", help="bind: the engine may make the interface later")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run as an OCI runtime runs a hook, with the container's state on standard input; return the exit code."""
    arguments = build_parser().parse_args(argv)
    is_binding = arguments.step == BIND
    with guard_output():
        try:
            asked = read_state(sys.stdin.buffer.read(MAX_BYTES + 1), is_binding=is_binding, is_early=arguments.early)
            config = config_at(arguments.config, is_undoing=not is_binding)
            if is_binding:
                signal.signal(signal.SIGTERM, _interrupt)  # an engine that gives up waiting
                add(asked, config, takes_back=True)
            else:
                unbind(config, lambda binding: binding.named == describe_attachment(asked.attachment))
        except (Exception, TerminatedError) as error:  # noqa: BLE001  # whatever it is, the engine shows it
            refused = error_of(error if isinstance(error, Exception) else HostError("the engine", "it ended the hook"))
            words = "; ".join(part for part in (refused.message, refused.details) if part)
            complain(words)
            syslog(LOG_ERR, visible(words))  # engines don't show what a hook prints
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
