"""Who is there: namespaces, workloads, agents and labs, as most tests with real packets find them.

    pair                 a protected instance and its peer, in either placement
    attachbench, attachhost, workload    workloads that exist before they are attached
    agentbench, agentscene, historyscene, reaching, ocihook    with a real agent
    plugging, plugginghost, plugscene    many workloads that come and go
    labs, sessionlab     labs of the product's own
    hostsscene, hostscloud    several hosts that follow one control plane
    bootedhost           a machine with systemd and the Debian package

May import what is below: `servers`, `probes`, `kernel`, `variants`, `documents`, `inputs`, `run`. Begin with pair.py.
"""
