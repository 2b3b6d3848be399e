"""What happened on a host: who talked to whom, what was dropped, and which rules decided, kept for a while."""
