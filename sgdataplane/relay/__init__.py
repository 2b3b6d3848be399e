"""Many hosts: which host needs what of the store, and how it gets there.

    Store --watch--> sgdp relay --WebSocket over TLS--> sgdp sync --generation folder--> sgdp agent

Must not know how a policy is enforced.
"""
