"""Reading a table, and walking it for sets of packets at once.

May import `spec`: an end of a walk is compared with an order of boxes.

    structure         what any table must be for the kernel to accept it
    step, ends        one rule as a kind of packet meets it
    program           a table's chains as one kind of packet meets them
    walk, gatewalk    the walk itself, and that of the fixed part
    priority, ranks, far    what a packet's priority can be, what a rank stands for, the groups of a far address
    lookups           named maps, read by key and page by page

Begin with walk.py, then program.py and step.py.
"""
