"""The report of a run: self-contained HTML pages, readable without a server or a network."""
