"""Importers: other programs' logs turned into the contract's events, item by item.

A reader says what one line, record or row of its format means; `Importer` makes it an event: whose it is, its
id, the contract's limits, and the account of what was not understood. Opening files, printing and the clock
belong to the command line. What a log's format says goes here; what an event means is `schemas`' business.
"""
