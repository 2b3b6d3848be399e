"""The state that read-only verbs use if none is named: the one that this host's agent enforces.

Must not need Linux: elsewhere there is no such state.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sgdataplane.terminal.anywhere import missing_here


def state_in_force(arguments: argparse.Namespace) -> Path | None:
    """Return the file of the state that this host's agent enforces; None if there is none that we may read.

    Raises:
        ConfigError: The agent's configuration is wrong.
    """
    try:
        from sgdataplane.cli.scopes import agent_config
        from sgdataplane.daemon.lookup import get_enforced_file

        config = agent_config(arguments)
        return get_enforced_file(config) if config.state.exists() else None
    except (ImportError, AttributeError) as error:
        if not missing_here(error):
            raise
    except OSError:  # it is root's
        pass
    return None
