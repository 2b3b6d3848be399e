"""What we write as text, and what judges it: sources, documents, schemas, and the checkers of others.

    sources, samples     the product's modules, parsed; the documents' blocks
    schemas, sarif/      the schemas of what commands print
    checkers, alerting, browser    lintian, promtool and others; chromium

Imports nothing else of `tests.support`.
"""
