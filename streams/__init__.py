"""How it moves: Kafka and Faust, the tenant directory, dead letters, alert delivery.

The only package that imports faust, aiokafka or prometheus-client.
Nothing here decides what is suspicious (detectors) or how a row is stored (store).
"""
