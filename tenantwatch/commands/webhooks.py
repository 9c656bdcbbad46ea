"""Where alerts are delivered: endpoints, and what became of each delivery."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from tenantwatch.commands.alerts import Severity
from tenantwatch.commands.asking import ask
from tenantwatch.commands.output import AsJson, moment, note, print_json, print_line, print_table

app = typer.Typer(no_args_is_help=True)

EndpointId = Annotated[
    str, typer.Argument(help="As `tenantwatch webhooks list` shows it.", metavar="ENDPOINT")
]
Description = Annotated[str | None, typer.Option(help="What it is for.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Of this tenant only.")]


def _path(*parts: str) -> str:
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _belongs_to(endpoint: dict[str, Any]) -> str:
    return endpoint["tenant_id"] or "(platform)"


def _print_secret(endpoint: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
        return
    print_line(f"{endpoint['endpoint_id']}  {endpoint['secret']}")
    note("That is the secret that signs its deliveries (Standard Webhooks). It is not shown again.")


@app.command()
def add(
    url: Annotated[
        str, typer.Argument(help="https://… that takes a POST for each alert revision.", metavar="URL")
    ],
    tenant: Annotated[str | None, typer.Option(help="Whose alerts it receives.")] = None,
    platform: Annotated[bool, typer.Option("--platform", help="It receives every tenant's alerts.")] = False,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    min_severity: Annotated[Severity, typer.Option(help="This severity and above.")] = "low",
    as_json: AsJson = False,
) -> None:
    """Add an endpoint, and print its id and its secret, once."""
    if (tenant is None) != platform:
        raise typer.BadParameter("say whose alerts it receives: --tenant T, or --platform for everyone's")
    new = {"tenant_id": tenant or "", "url": url, "description": description, "min_severity": min_severity}
    _print_secret(ask("POST", "/webhooks", json=new), as_json)


@app.command("list")
def list_endpoints(tenant: OfTenant = None, as_json: AsJson = False) -> None:
    """List the endpoints, without their secrets."""
    endpoints = ask("GET", "/webhooks", params={"tenant_id": tenant})
    if as_json:
        print_json(endpoints)
        return
    columns = {
        "endpoint": lambda e: e["endpoint_id"],
        "tenant": _belongs_to,
        "severity": lambda e: e["min_severity"],
        "status": lambda e: e["status"] + (f": {e['status_reason']}" if e["status_reason"] else ""),
        "url": lambda e: e["url"],
        "description": lambda e: e["description"],
    }
    print_table(columns, endpoints, "no endpoints; add one with `tenantwatch webhooks add`")


@app.command()
def update(
    endpoint_id: EndpointId,
    url: Annotated[str | None, typer.Option(help="Its new URL.")] = None,
    description: Description = None,
    min_severity: Annotated[Severity | None, typer.Option(help="This severity and above.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change an endpoint; what is not named stays."""
    change = {"url": url, "description": description, "min_severity": min_severity}
    given = {name: value for name, value in change.items() if value is not None}
    if not given:
        raise typer.BadParameter("nothing to change: name --url, --description or --min-severity")
    _changed(ask("PATCH", _path("webhooks", endpoint_id), json=given), as_json)


@app.command()
def enable(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Deliver to an endpoint again, from the next alert on."""
    _changed(ask("PATCH", _path("webhooks", endpoint_id), json={"status": "enabled"}), as_json)


@app.command()
def disable(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Stop delivering to an endpoint; what waits is cancelled."""
    _changed(ask("PATCH", _path("webhooks", endpoint_id), json={"status": "disabled"}), as_json)


def _changed(endpoint: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
    else:
        note(f"{endpoint['endpoint_id']} is {endpoint['status']}, for {endpoint['min_severity']} and above")


@app.command("rotate-secret")
def rotate_secret(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Give an endpoint a new secret, and print it, once; for a day the old one signs beside it."""
    _print_secret(ask("POST", _path("webhooks", endpoint_id, "rotate")), as_json)


@app.command()
def remove(
    endpoint_id: EndpointId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove an endpoint; what waits is cancelled, its delivery log stays."""
    if not yes:
        typer.confirm(f"Remove {endpoint_id}?", abort=True, err=True)
    ask("DELETE", _path("webhooks", endpoint_id))
    note(f"removed {endpoint_id}")


@app.command("test")
def send_test(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Send a webhook.test now, also to a disabled endpoint; exit code 1 if it does not arrive."""
    result = ask("POST", _path("webhooks", endpoint_id, "test"))
    delivered = 200 <= result["http_status"] < 300
    if as_json:
        print_json({**result, "delivered": delivered})
    elif delivered:
        note(f"delivered: HTTP {result['http_status']} after {result['duration_ms']} ms", "green")
    else:
        note(f"not delivered: {result['error'] or 'HTTP {}'.format(result['http_status'])}", "red")
    raise typer.Exit(0 if delivered else 1)


@app.command()
def deliveries(
    tenant: OfTenant = None,
    endpoint: Annotated[str | None, typer.Option(help="Of this endpoint only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List deliveries and their last attempts, the newest first."""
    params = {"tenant_id": tenant, "endpoint_id": endpoint, "limit": limit}
    logged = ask("GET", "/deliveries", params=params)
    if as_json:
        print_json(logged)
        return
    columns = {
        "delivery": lambda entry: entry["delivery"]["delivery_id"],
        "created": lambda entry: moment(entry["delivery"]["created_at"]),
        "event": lambda entry: f"{entry['delivery']['event_type']} revision {entry['delivery']['revision']}",
        "status": lambda entry: entry["delivery"]["status"],
        "attempts": lambda entry: entry["delivery"]["attempts"],
        "last answer": lambda entry: _last_answer(entry["last_attempt"]),
    }
    print_table(columns, logged, "no deliveries")


def _last_answer(attempt: dict[str, Any] | None) -> str:
    if attempt is None:
        return ""
    return str(attempt["error"] or f"HTTP {attempt['http_status']}")


@app.command()
def redeliver(
    delivery_id: Annotated[
        str, typer.Argument(help="As `tenantwatch webhooks deliveries` shows it.", metavar="DELIVERY")
    ],
    as_json: AsJson = False,
) -> None:
    """Put a delivery back into the queue, whatever became of it."""
    delivery = ask("POST", _path("deliveries", delivery_id, "redeliver"))
    if as_json:
        print_json(delivery)
    else:
        note(f"{delivery_id} waits for its delivery again")
