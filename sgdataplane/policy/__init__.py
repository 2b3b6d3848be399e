"""Say what applies on this host: groups flattened into permissions, and what is odd about them.

This package must not know nftables.
"""
