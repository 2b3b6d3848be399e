"""What tests share. No tests are here; the first page of each package lists its modules.

    events       what happens in a scene while a test watches: sessions, floods, restarts, failures
    scenes       who is there: an instance and its peer, workloads, agents, labs, several hosts
    servers      etcd, container engines, relays, systemd; the cloud's SDKs and Prometheus as clients
    probes       programs that send, receive or count packets in namespaces
    kernel       nft, raw netlink, conntrack: what administrators and attackers do without the product
    variants     `sgdp` with a fault, or with other intervals
    documents    our sources, documents and schemas, and what checks them
    models       independent judges, and kernels in memory
    inputs       states, policies, tables and calls, small, random or hard
    run          isolation, waiting, warm processes, users, disks: where tests run

Each package imports only itself and those below it here. To write a test of one part of the product, begin with
inputs/builders.py. To write one with real packets, begin with scenes/pair.py and probes/flood.py. Some modules are
programs as well: `python -m tests.support.probes.flood`.
"""
