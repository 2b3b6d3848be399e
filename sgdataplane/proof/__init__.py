"""Translation validation: does a compiled table do what the specification says, for every packet?"""
