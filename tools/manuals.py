"""Writes man pages and shell completions, made from the parser of `sgdp`: `make install`, and the Debian package.

Owns which pages there are, what they have besides the parser's own texts, and where shells look for completions. Is
given the folder `share` of a prefix; run by `.venv/bin/python -I`. Must not know what a verb does.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from argparse import SUPPRESS, Action, ArgumentParser, HelpFormatter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from sgdataplane import __version__
from sgdataplane.cli.completion import actions_of, completion, verbs_of
from sgdataplane.cli.main import build_parser
from sgdataplane.cni import hook, plugin, runtime
from sgdataplane.terminal.output import EXIT_MEANINGS

Pages: TypeAlias = Iterator[tuple[str, str]]
SUMMARY = "enforce cloud security groups with nftables, and try them in a lab"
PROGRAM_SUMMARY = "let a container start only once its security groups are in force"
FILES: Mapping[str, str] = {
    "/etc/sgdataplane/agent.toml": "the agent's configuration; the installed file explains each key",
    "/etc/sgdataplane/state.yaml": "the state that the agent enforces, unless the configuration names another one",
    "/run/sgdataplane/": "bindings of interfaces to ENIs, and the agent's socket",
    "/var/lib/sgdataplane/": "the last good policy, and the hits of each rule",
    "/usr/share/doc/sgdataplane/": "README.md and all other pages, and examples",
}
ENVIRONMENT: Mapping[str, str] = {
    "SGDP_STATE": "the state that commands read if none is named",
    "SGDP_LAB": "the name of the lab that commands mean without --name",
    "SGDP_API": "the address of the API that `sgdp group` asks",
    "NO_COLOR": "if it isn't empty, the output has no colours",
    "CONTAINER_HOST, DOCKER_HOST": "the sockets of podman and docker, if they aren't at their default places",
}
SHELLS: Mapping[str, str] = {  # the file that each shell looks for, in `share`
    "bash": "bash-completion/completions/sgdp",
    "zsh": "zsh/{zsh}/_sgdp",
    "fish": "fish/vendor_completions.d/sgdp.fish",
}


def pages() -> Pages:
    """Each page's name and text: of sgdp, of each verb, such as sgdp-lab-up, and of what container runtimes run."""
    parser = build_parser()
    examples = (_example(verb) for verb, _ in verbs_of(parser).values())
    more = (
        _section("examples", _literal("\n".join(filter(None, examples)))),
        _section("exit status", *_terms({str(int(code)): words for code, words in EXIT_MEANINGS.items()})),
        _section("files", *_terms(FILES)),
        _section("environment", *_terms(ENVIRONMENT)),
    )
    yield from _with_verbs(parser, SUMMARY, (), more)
    for program in (plugin, hook, runtime):
        yield from _with_verbs(program.build_parser(), PROGRAM_SUMMARY, ("sgdp",), ())


def _with_verbs(parser: ArgumentParser, summary: str, above: Sequence[str], more: Iterable[str]) -> Pages:
    """A parser's page, then those of its verbs. `above`: the pages over it; `more`: sections after its own."""
    name, verbs = parser.prog.replace(" ", "-"), verbs_of(parser)
    near = (*above, *(f"{name}-{verb}" for verb in sorted(verbs)))
    see = ",\n".join(f".BR {_escaped(page)} (1)" for page in near)
    yield name, "".join((_head(parser, name, summary), *_sections(parser), *more, _section("see also", see)))
    for verb, words in verbs.values():
        example = _example(verb)
        sections = (_section("example", _literal(example)),) if example else ()
        yield from _with_verbs(verb, words, (*above, name), sections)


def _example(verb: ArgumentParser) -> str:
    """A command line; "" if its help has none."""
    _, _, example = (verb.epilog or "").rpartition("example: ")
    return example


def _head(parser: ArgumentParser, name: str, summary: str) -> str:
    title = f'.TH "{_escaped(name.upper())}" 1 {_day()} "sgdataplane {__version__}" sgdataplane\n'
    usage = " ".join(parser.format_usage().split()).removeprefix(f"usage: {parser.prog}")
    synopsis = f".B {_escaped(parser.prog)}\n{_escaped(usage.strip())}"
    described = "\n.PP\n".join(_escaped(" ".join(part.split())) for part in (parser.description or "").split("\n\n"))
    named = f"{_escaped(name)} \\- {_escaped(summary)}"
    return title + _section("name", named) + _section("synopsis", synopsis) + _section("description", described)


def _day() -> str:
    """Of the release, if the build says so: a package that is built twice has the same bytes."""
    return datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())), UTC).date().isoformat()


def _sections(parser: ArgumentParser) -> Iterator[str]:
    """One for each group of arguments."""
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        terms = {term: words for action in group._group_actions for term, words in _described(action, formatter)}
        if terms:
            about = [_escaped(group.description)] if group.description and not actions_of(parser) else []
            yield _section(group.title or "", *about, *_terms(terms))


def _described(action: Action, formatter: HelpFormatter) -> Iterator[tuple[str, str]]:
    if isinstance(action, argparse._SubParsersAction):
        yield from ((listed.dest, listed.help or "") for listed in action._choices_actions)
    elif action.help not in (None, SUPPRESS):
        yield formatter._format_action_invocation(action), formatter._expand_help(action)


def _section(title: str, *parts: str) -> str:
    return "\n".join((f".SH {_escaped(title.upper())}", *parts, ""))


def _terms(terms: Mapping[str, str]) -> Iterator[str]:
    for term, words in terms.items():
        yield f".TP\n.B {_escaped(term)}\n{_escaped(words)}"


def _literal(text: str) -> str:
    return "\n".join((".nf", *(_escaped(line.strip()) for line in text.splitlines()), ".fi"))


def _escaped(text: str) -> str:
    """As text, whatever is in it. A line of a page that begins with a dot or a quote is a request to roff."""
    spelt = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in spelt.splitlines())


def main() -> None:
    """The folder; and which folder of zsh's: vendor-completions is for Debian's packages, site-functions for others."""
    share, zsh = Path(sys.argv[1]), sys.argv[2]
    files = {f"man/man1/{name}.1": text for name, text in pages()}
    files |= {path.format(zsh=zsh): completion(shell) for shell, path in SHELLS.items()}
    for name, text in files.items():
        path = share / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)


if __name__ == "__main__":
    main()
