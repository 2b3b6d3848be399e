"""Hold nftables tables as data, and speak to the kernel's nftables. This package must not know clouds."""
