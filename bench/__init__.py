"""Benchmarks: each measures one thing with one command and writes JSON into ``build/``.

Ratios within one run mean more than absolute figures; nothing here asserts.
"""
