"""The store in one file of SQLite, for one machine: its file, its transactions, its copies. Begin with store.py."""
