"""Captures replayed through a lab: from a file's records to what became of each flow's packets."""
