"""Grafana dashboards as code: `python -m dashboards.grafana` writes `json/` and `provisioning/`.

Only this folder may import the Grafana SDK, which is a development dependency: the installed
application and Grafana itself need nothing but the JSON that was generated.
"""
