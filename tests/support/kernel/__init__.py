"""The kernel's state in the hands of somebody else than the product: administrators and attackers.

    nft                  the `nft` program and libnftables
    rawnft, assault      any netlink message to nf_tables, and many of them
    netadmin             a process with CAP_NET_ADMIN alone
    conntrack, reader    connection entries by the thousand; a BPF program that holds RCU's read lock

May import `run`.
"""
