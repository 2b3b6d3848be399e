"""Where tests run: isolated from the machine, in warm processes, with users, disks and limits of their own.

    isolation            keeps the suite off the machine
    waiting              wait for a condition, with a deadline
    forked, warm, warmcall, warmprocess, warminterpreter    programs that fork from one that has imported them
    users, sandbox, disk, failingfs    a user, a unit's limits, a full disk, a file system whose changes fail
    memorystore          a store that ends with its process, held to the same tests as the others
    spilling             what a relay keeps on disk: few documents, too; a disk that is full or wrong
    amounts, paths       how many examples a test tries; how many paths a table may have
    mixed                the order of the test modules

Imports nothing else of `tests.support`.
"""
