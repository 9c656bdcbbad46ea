"""The demo: a made-up day of three tenants goes through the real pipeline; its alerts meet the truth.

`scenario`, `organizations`, `day`, `attacks`, `probes`, `verdict` and
`outcome` are pure: the same seed gives the same day. `pipeline` (with `child`), `receiver` and `replay` touch
the world, `run` puts them together, `show` prints.
"""
