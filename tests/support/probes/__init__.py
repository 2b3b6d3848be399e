"""Programs that send, receive or count packets in namespaces that they are given.

    flood, synflood, pusher, streams    UDP floods, TCP floods, one session, checked bytes
    ends, early, trialtraffic    sockets of a lab, a sender that begins early, traffic that a trial counts
    crafted, crafter, probers    hand-made packets, and probes of labs
    witness, wirelab, links      counters around our hooks, a wire for any packet, a namespace's interfaces

May import `run` and `kernel`. Begin with flood.py.
"""
