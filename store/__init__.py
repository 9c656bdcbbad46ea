"""Where it rests: ClickHouse, in this process or as a server, with the same SQL.

The only package that imports clickhouse-connect or chdb.
Every read is bound to a tenant; the platform operator's unbound view is a type of its own.
"""
