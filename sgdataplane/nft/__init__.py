"""nftables as data, and the kernel's door. Must not know clouds."""
