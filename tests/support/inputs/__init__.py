"""What tests give to the product: states, policies, tables, calls and packets; small, random or hard ones.

    builders, building    small states in a line a thing; from there to what is in force
    gen, chooser          states and parts of rules by hypothesis, or from a seed
    hardpolicies, classbench, classbench_seeds    policies that are hard to compile
    changes, edits, rewrites    what becomes of a state, and other ways to write it
    mutate, mutate_asked, mutants, kintables    wrong and random tables
    controlling, everyaction, tenants, summaries    calls to the control plane, its documents, what relays write
    generations, statefiles, pages, replays, trialpages, seen, chains    files, reports, trials, evidence, IPv6 headers

Imports nothing else of `tests.support`. Begin with builders.py.
"""
