"""Rules of a tenant's own: Sigma texts, compiled to predicates over columns and windows over events.

pySigma is imported only by the modules here that read texts, and only when there is one to read.
"""
