"""Existing interfaces of workloads bound to ENIs, and this host's attached ENIs made to obey a state."""
