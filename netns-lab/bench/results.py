"""What a run found, as a value: samples by measure and variant, what couldn't be run, and where it ran.

Owns this value and its JSON. Must not know how it is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.costs import Figures
from bench.measures import Measure
from bench.variants import Variant

Samples = dict[Variant, list[float]]


@dataclass
class Results:
    """`samples`: those at one place of the lists were taken in one round. `variants`: in the order in which they were
    asked for. `not_run`: why some variants have no samples. `facts`: what was run, where and when."""

    variants: Sequence[Variant]
    facts: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # that the run took
    versions: dict[str, str] = field(default_factory=dict)
    not_run: dict[Variant, str] = field(default_factory=dict)
    figures: Figures = field(default_factory=Figures)  # of the commands that measure what isn't on a path
    samples: dict[Measure, Samples] = field(default_factory=lambda: {measure: {} for measure in Measure})

    def note(self, variant: Variant, figures: Mapping[Measure, float]) -> None:
        """Add one sample of each measure."""
        for measure, figure in figures.items():
            self.samples[measure].setdefault(variant, []).append(figure)

    def give_up(self, variant: Variant, reason: str) -> None:
        """Remove the samples of a variant, as an unfinished series of rounds says nothing."""
        self.not_run[variant] = reason
        for samples in self.samples.values():
            samples.pop(variant, None)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self._plain()) + "\n", encoding="utf-8")

    def _plain(self) -> dict[str, object]:
        return {
            "facts": self.facts,
            "versions": self.versions,
            "variants": [[variant.name, variant.size] for variant in self.variants],
            "not_run": [[variant.name, variant.size, why] for variant, why in self.not_run.items()],
            "figures": asdict(self.figures),
            "samples": [
                [measure.name, variant.name, variant.size, [float(f"{sample:.5g}") for sample in samples]]
                for measure, of_variant in self.samples.items()
                for variant, samples in of_variant.items()
            ],
        }


def read(path: Path) -> Results:
    """Read what `write` wrote."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    results = Results([Variant(*entry) for entry in plain["variants"]], plain["facts"], versions=plain["versions"])
    results.not_run = {Variant(name, size): why for name, size, why in plain["not_run"]}
    results.figures = Figures(**plain["figures"])
    for measure, name, size, samples in plain["samples"]:
        results.samples[Measure[measure]][Variant(name, size)] = samples
    return results
