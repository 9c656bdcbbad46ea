"""The trail that can be verified: what is sealed, by whom, and whether the rows are still what was sealed.

Here: canonical rows, seals, signed statements, keys, reading and comparing them. Not here: when a worker
seals (streams), and who may ask (api).
"""
