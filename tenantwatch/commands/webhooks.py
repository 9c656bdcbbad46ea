"""webhooks."""

import typer

app = typer.Typer()


@app.command()
def list() -> None:
    """List."""


@app.command()
def show() -> None:
    """Show."""
