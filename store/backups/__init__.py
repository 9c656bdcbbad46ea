"""Backups of the store: tables as files in ClickHouse's own format, with checksums and a signed manifest.

Here: writing, reading, restoring. Not here: the command line (tenantwatch), keys (they are kept apart).
"""
