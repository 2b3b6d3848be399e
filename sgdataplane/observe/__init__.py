"""Everything that the kernel tells back; this package reads only."""
