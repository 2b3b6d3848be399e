"""The cloud's own answers (state-format.md, section B) -> Sections, under native names.

Owns which answers are needed, and what happens where an answer is missing. Is given documents; each kind of objects has
a module that reads and writes it. Must not know what values mean: the readers of the native format check them, so both
formats obey the same rules.
"""

from __future__ import annotations

from sgdataplane.errors import Where
from sgdataplane.policy.findings import Finding
from sgdataplane.statefile import ecs_answers as calls
from sgdataplane.statefile.document import Document
from sgdataplane.statefile.ecs_answers import EcsAnswers
from sgdataplane.statefile.ecs_enis import add_interfaces
from sgdataplane.statefile.ecs_groups import add_groups, add_groups_alone
from sgdataplane.statefile.ecs_instances import add_instances
from sgdataplane.statefile.ecs_lists import add_port_lists, add_prefix_lists
from sgdataplane.statefile.ecs_translation import Translation
from sgdataplane.statefile.ecs_vpcs import add_vpcs
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Sections


def add_ecs(documents: list[Document], sections: Sections, problems: Problems) -> list[Finding]:
    """Add all objects of the answers to `sections`; the findings say which answers were ignored."""
    answers = EcsAnswers(documents, problems)
    translation = Translation(answers, sections, problems)
    if answers.are_about_groups_alone:
        add_groups_alone(translation)
        return answers.findings
    if not answers.of(calls.SECURITY_GROUPS):
        translation.refuse_missing(Where(documents[0].file), calls.SECURITY_GROUPS)
        return answers.findings
    sections.is_complete = answers.check_pages()
    add_vpcs(translation)
    add_groups(translation)
    add_prefix_lists(translation)
    add_port_lists(translation)
    add_interfaces(translation)
    add_instances(translation)
    return answers.findings
