"""The store: documents with revisions, which the control plane keeps, and everything that reads or writes them.

    interface   what a store does, and its values; everything else here builds on it
    opening     which store a text names: open_store()
    sqlite, etcd, memory (encoded: documents as text)    the stores
    documents   all documents at one revision, with indexes (layered: mappings that share what stays)
    call, audit, history    for whom a commit is made, its record, and what the store says about its own past
    hosts, refusals, summaries    the documents of hosts, and what relays say of them

Below `control` and `relay`, which stand on it: imports neither. Begin with interface.py, then documents.py.
"""
