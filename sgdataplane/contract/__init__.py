"""Define what compiler, proof, enforce and observe agree on about our tables: fields, names, marks, stamp."""
