"""Importers: other programs' logs turned into the contract's events, line by line.

Each is a stream of lines in and a stream of events out; opening files, printing and the clock belong to
the command line. What a line's format says goes here; what an event means is `schemas`' business.
"""
