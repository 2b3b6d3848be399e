"""What the kernel tells back: read only."""
