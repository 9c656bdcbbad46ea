"""The versioned HTTP API under ``/v1``: who is calling, what they may do, and what is answered.

`routing` declares a route with its permission, `gate` lets a request through or not, `routes/` holds the
resources. Nothing here reads a table without a scope, and no handler runs before the gate has spoken.
"""
