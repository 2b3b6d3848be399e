"""Validate the compiler's translation: does a table do what the specification says, for every packet?

    table --> prove --> checks --> walk: where each set of packets ends --> equal to spec? --no--> witness: one packet

`prove` is the entry: prove() proves a table, or returns what is wrong with it. `witness` makes one packet of a
difference. The packages are floors. Each may import those that stand below it here:

    checks    the statements that make up a proof, each compared by itself
    reuse     what a second proof needn't repeat; a first reader can skip it
    walk      reading a table, and walking it for sets of packets at once
    spec      what must hold: what decide() claims, and the clauses of a table's fixed part, as sets of packets

Its input is a Specification and a table's IR. Must not know how the table was compiled. Begin with prove.py, then
checks/profile.py, walk/walk.py and spec/claims.py.
"""
