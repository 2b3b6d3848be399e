"""How commands speak with people and programs at a terminal: what every command shares, whichever it is.

    output      exit codes, lines, JSON, tables, colours, errors (layout: tables that are too wide)
    progress    what is shown while a command works
    arguments   the parser, and the arguments that several verbs share
    files       files that a command writes, each whole or not at all
    bugs        what is said of an error that is a bug of ours

Below `cli`, `cni` and `lab`, which use it: imports no verb, and nothing that enforces. Begin with output.py.
"""
