"""A process that puts the policy of these tests in force and ends: python -m tests.hostile.applying NAMESPACE"""

from __future__ import annotations

import sys

from tests.hostile.scene import PLAIN, policy
from tests.support.inputs.building import enforce

if __name__ == "__main__":
    enforce(sys.argv[1], policy(), None, PLAIN)
    print("done")
