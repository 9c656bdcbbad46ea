"""What is suspicious: pure functions of a batch and a state of plain arrays.

No clock, no I/O, no randomness, no logging: time comes in as event time.
Splitting the same stream into other batches gives the same alerts.
"""
