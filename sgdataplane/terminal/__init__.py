"""How commands speak with people and programs at a terminal: what every command shares, whichever it is.

    output      exit codes, lines, JSON, tables, colours, errors (layout: tables that are too wide)
    progress    what is shown while a command works
    arguments   the parser, and the arguments that several verbs share
    files       files that a command writes, each whole or not at all
    bugs        the report of an error that is a bug of sgdataplane

This package is below `cli`, `cni` and `lab`, which use it. It imports no verb, and nothing that enforces. Begin with
output.py.
"""
