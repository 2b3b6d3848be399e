"""Says what became of the mutants that `make mutants` has made: a score for each module, and each one that lives.

Owns the wording. It is given mutmut's list of results. Must not run anything itself but mutmut's own commands.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from tools.commands import table

RESULT = re.compile(r"^\s*(?P<module>[\w.]+)\.x_?\S*?__mutmut_\d+: (?P<outcome>[\w ]+)$")
DEAD = ("killed", "timeout")
LIVING = ("survived", "no tests", "suspicious")


def page(results: str) -> Iterator[str]:
    """Yield the lines of a page about `mutmut results --all true`."""
    found = defaultdict[str, Counter[str]](Counter)
    living = list[str]()
    for line in results.splitlines():
        if told := RESULT.match(line):
            found[told["module"]][told["outcome"]] += 1
            if told["outcome"] in LIVING:
                living.append(line.strip())
    yield table(("module", "mutants", "dead", "alive", "without a test", "not tried"), map(_row, sorted(found.items())))
    yield from ("", "Those that live (`mutmut show NAME` prints one):", "") if living else ()
    yield from (f"- `{line}`" for line in living)


def _row(entry: tuple[str, Mapping[str, int]]) -> tuple[str, ...]:
    module, outcomes = entry
    dead = sum(outcomes.get(outcome, 0) for outcome in DEAD)
    untested, untried = outcomes.get("no tests", 0), outcomes.get("not checked", 0)
    tried = sum(outcomes.values()) - untried
    share = f"{dead} ({100 * dead / max(1, tried):.0f} %)"
    return f"`{module}`", str(tried + untried), share, str(tried - dead - untested), str(untested), str(untried)


def main() -> None:
    command = [sys.executable, "-m", "mutmut", "results", "--all", "true"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print("\n".join(page(done.stdout)))


if __name__ == "__main__":
    main()
