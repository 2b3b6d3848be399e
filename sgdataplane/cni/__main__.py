"""The plugin as a command: `python -m sgdataplane.cni`."""

import sys

from sgdataplane.cni.plugin import main

sys.exit(main())
