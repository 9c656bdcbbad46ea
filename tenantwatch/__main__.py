"""``python -m tenantwatch``: the command line, for child processes that must not depend on a path."""

from tenantwatch.cli import main

main()
