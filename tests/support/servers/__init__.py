"""Programs of others beside the product, and of ours beside the agent: servers that tests start, hurt and ask.

    etcdserver, etcdload, storelife, storewriting    etcd, and writers of any store
    docker, podman, containerd, libvirt, guest    container engines and machines (engines: their files; engine: a fake;
                         pythonimage: a base for images)
    cnidriver            a container runtime's calls of CNI plugins
    booted               a systemd that is process 1 of a machine of its own
    relaying, crowdedrelay, lossyproxy, certificates    relays, and what lies between them and hosts
    sdks, commandline    the cloud's SDKs and its command line as clients
    playbooks, terraform    Ansible's modules and Terraform as clients
    scraping             Prometheus as a client

May import `run`, `probes` and `documents`.
"""
