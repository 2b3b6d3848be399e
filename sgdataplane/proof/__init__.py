"""Translation validation: a compiled table does what the specification says, for every packet class."""
