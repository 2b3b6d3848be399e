"""Independent judges: what must come out, worked out another way than the product does.

    fakekernel, oldkernel, inflight    kernels in memory; kernel_contract is what every Kernel does
    exhaust, meaning, diagrams, variables    whether two tables do the same with every packet, by decision diagrams
    wire, packetspace, regions, lookups    a packet as the kernel reads it, sets of packets, the longest way
    smallstates, trialing, otherclouds     verdicts by trying everything, what a trial counts, what other clouds do
    doors, trackers      tables that two ways to the kernel must agree on; the kernel's own timeouts

May import `inputs`.
"""
