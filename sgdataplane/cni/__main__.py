"""`python -m sgdataplane.cni` is the plugin."""

import sys

from sgdataplane.cni.plugin import main

sys.exit(main())
