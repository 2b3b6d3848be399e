"""The lab: namespaces for instances, routers and hosts outside, and probes with real packets.

The product never imports it.
"""
