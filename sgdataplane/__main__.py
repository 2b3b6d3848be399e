"""`python -m sgdataplane` is `sgdp`."""

import sys

from sgdataplane.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
