"""Events in files: checking them."""

from dataclasses import asdict

import typer

from tenantwatch.commands.input import File, opened
from tenantwatch.commands.output import AsJson, note, out, print_json, print_line


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(validate)


def validate(file: File, as_json: AsJson = False) -> None:
    """Check events before they are sent: what the pipeline would reject, and what looks misspelt.

    A line is an event or an array of events of one tenant. Exit code 1 when there are errors.
    """
    from schemas.validate import Summary, validate_lines

    summary = Summary()
    with opened(file, progress=not out.is_terminal) as source:
        problems = validate_lines(source.lines(), summary)
        if as_json:
            found = [asdict(problem) for problem in problems]
            print_json({**asdict(summary), "problems": found})
        else:
            for problem in problems:
                text = f"{source.name}:{problem.line}: {problem.severity}: {problem.reason}: {problem.detail}"
                print_line(text, "red" if problem.severity == "error" else "yellow")
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in summary.events.items() if count)
    good = sum(summary.events.values())
    note(
        f"{summary.lines:,} lines, {good:,} good events{f' ({kinds})' if kinds else ''}, "
        f"{summary.errors:,} errors, {summary.warnings:,} warnings",
        "red" if summary.errors else "green",
    )
    raise typer.Exit(1 if summary.errors else 0)
