"""Who may see it: the HTTP API over the store and the running worker.

Health, metrics and the local control socket that the command line uses.
Nothing here reads Kafka or holds detector state.
"""
