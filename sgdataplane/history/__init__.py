"""The history of a host, kept for a while: who talked to whom, what was dropped, and which rules decided."""
