"""What the cloud says, and what it means. Must not know nftables, hosts or files."""
