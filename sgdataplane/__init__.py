"""Security groups, enforced with nftables and conntrack in Linux network namespaces.

Owns the version; the public names stand in the subpackages. Must not import anything: it is read on every start.
"""

__version__ = "0.1.0"
