"""The lab: namespaces for instances, routers and hosts outside, and probes with real packets.

Only verbs of `cli` import it, and only when they run.
"""
