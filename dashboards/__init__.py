"""What people look at: Grafana dashboards and Prometheus rules, as code and as generated files.

Queries here are plain SQL over the store's tables; tests execute each of them.
"""
