"""What a proof keeps, so that the next one needn't repeat it. A first reader can skip this package.

May import `walk` and `spec`. Without it, the proof would come to the same result, and be slower. Whether a part is
reused is asked where that part is proven: in prove.py (`Places`), checks/profile.py, checks/kindcheck.py and
checks/leaves.py. Which chains have changed, walk/structure.py says.

    shared      what the proofs of all profiles of a table share
    proven      a proven interface, and when the same proof would come out again
    template    a proven interface as a template for ENIs that are like it
    regions     the packets that a changed table can treat otherwise
    partial     the walk of addresses, repeated only where something changed

Begin with proven.py. docs/design/proof.md, "Only what changed", says why each may be skipped.
"""
