"""What flows: the pydantic models of the contract and the columnar batch.

Everything here is a pure function of its arguments: no I/O, no clock, no logging.
Field names are fixed by the contract; JSON Schema and AsyncAPI are generated from these models.
"""
