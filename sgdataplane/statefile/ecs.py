"""The cloud's own answers (state.md, B) -> Sections, under native names.

Owns the order of translation and what is done where an answer is missing. Is given documents. Must not know what values
mean: the readers of the native format check them, so that both formats are held to the same rules.
"""

from __future__ import annotations

from sgdataplane.errors import Where
from sgdataplane.policy.findings import Finding
from sgdataplane.statefile import ecs_answers as ecs
from sgdataplane.statefile.document import Document
from sgdataplane.statefile.ecs_answers import Answers
from sgdataplane.statefile.ecs_enis import add_instances, add_interfaces
from sgdataplane.statefile.ecs_groups import add_groups
from sgdataplane.statefile.ecs_lists import add_port_lists, add_prefix_lists
from sgdataplane.statefile.ecs_translate import Translation
from sgdataplane.statefile.ecs_vpcs import add_vpcs
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Sections


def add_ecs(documents: list[Document], sections: Sections, problems: Problems) -> list[Finding]:
    """Add all objects of the answers to `sections`; the findings tell which answers were ignored."""
    answers = Answers(documents, problems)
    translation = Translation(answers, sections, problems)
    if not answers.of(ecs.SECURITY_GROUPS):
        translation.refuse_missing(Where(documents[0].file), ecs.SECURITY_GROUPS)
        return answers.findings
    sections.is_complete = answers.check_pages()
    add_vpcs(translation)
    add_groups(translation)
    add_prefix_lists(translation)
    add_port_lists(translation)
    add_interfaces(translation)
    add_instances(translation)
    return answers.findings
