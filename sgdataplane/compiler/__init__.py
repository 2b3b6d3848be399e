"""Compile a HostPolicy into nftables tables. The compiler does no I/O, and doesn't know what the kernel holds."""
