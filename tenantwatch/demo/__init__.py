"""The demo: a made-up day of three tenants goes through the real pipeline, and the alerts are compared with the truth.

`scenario`, `organizations`, `day`, `attacks`, `probes` and `verdict` are pure: the same seed gives the same
day. `pipeline`, `receiver` and `replay` touch the world; `run` puts them together, `show` prints.
"""
