"""What applies on this host: groups flattened into permissions, and what is odd about them. Must not know nftables."""
