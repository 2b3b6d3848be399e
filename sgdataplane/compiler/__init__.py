"""HostPolicy -> nftables tables. Does no I/O, and doesn't know what the kernel holds."""
