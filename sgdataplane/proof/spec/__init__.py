"""What a table must do with each packet: clauses and candidates, as sets of packets.

Reads states and rules, and no table. The lowest floor of `proof`: imports nothing of it.

    specification    a namespace's specification, and what must happen to any one packet
    fixed, entry     clauses of the fixed part: at an ENI's interface, and at all others
    claims           what decide() claims about an ENI, direction and family
    crossing, kinds  which packets there are, and which fields they have
    readings, outcomes    how fields of a kind of packet are read; what happens to a packet
    axes, order      values of a field as atoms, and boxes of atoms in order of strength

Begin with specification.py, then claims.py.
"""
