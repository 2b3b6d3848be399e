"""The statements that make up a proof, each checked by itself: what the walk finds must equal what must hold.

May import `reuse` and what is below.

    gate        the fixed part of a table
    profile     the chains of one profile: kindcheck for each kind of packets, groups for the rank that they get,
                leaves for the ranks that a verdict chain gives way to
    audits      ENIs in audit mode
    limits      limits of sessions
    origin      what a router itself sends
    timeouts    idle timeouts

Begin with profile.py, then kindcheck.py.
"""
