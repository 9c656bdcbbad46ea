"""Detector parameters: what holds for a tenant and who said so, and changing it at run time."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tenantwatch.commands.output import AsJson, complain, fail, note, print_json, print_table
from tenantwatch.commands.overrides import read_overrides, split_name, written
from tenantwatch.commands.tenants import change_tenant, find_tenant, warn_unless
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from detectors.tuning import Overrides
    from schemas.tenant import ParameterValue, Tenant
    from schemas.tuning import Tuning

    Edit = Callable[[Overrides], dict[str, dict[str, ParameterValue]]]

app = typer.Typer(no_args_is_help=True)


# As in the contract, whose models help would wait for.
TierName = Literal["free", "standard", "enterprise"]
Everywhere = Annotated[bool, typer.Option("--global", help="For every tenant.")]
OfTier = Annotated[TierName | None, typer.Option("--tier", help="For tenants of this tier.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="For this tenant.")]


@app.command()
def show(
    tenant: Annotated[
        str | None, typer.Argument(metavar="[TENANT]", help="Without it: what was set, and for whom.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show each detector's parameters as they hold for a tenant: value, who said so, range, and why.

    Of what says something, the last wins: default, built-in tier, global, tier, tenant.
    """
    from schemas.tenant import Tenant
    from tenantwatch.control import Control
    from tenantwatch.directory import current_tuning

    with Control(Settings()) as control:
        tuning = current_tuning(control)
        if tenant is None:
            own = {one["tenant_id"]: one["detectors"] for one in control.get("/tenants")}
            _print_layers(tuning, own, as_json)
        else:
            _print_settings(Tenant.model_validate(find_tenant(control, tenant)), tuning, as_json)


def _print_layers(tuning: "Tuning", tenants: "Mapping[str, Overrides]", as_json: bool) -> None:
    own = {tenant_id: overrides for tenant_id, overrides in tenants.items() if overrides}
    if as_json:
        print_json({"global": tuning.detectors, "tiers": tuning.tiers, "tenants": own})
        return
    layers = {"global": tuning.detectors}
    layers |= {f"tier {tier}": overrides for tier, overrides in tuning.tiers.items()}
    print_table(
        {"for": lambda row: row[0], "set": lambda row: row[1]},
        [
            (name, written({detector: values}))
            for name, overrides in [*layers.items(), *((f"tenant {one}", of) for one, of in own.items())]
            for detector, values in overrides.items()
        ],
        "nothing is set; `tenantwatch tuning show TENANT` shows what holds",
    )


def _print_settings(tenant: "Tenant", tuning: "Tuning", as_json: bool) -> None:
    from detectors.parameters import check_overrides
    from detectors.tuning import settings_of

    found = settings_of(tenant, tuning)
    if as_json:
        print_json([setting._asdict() for setting in found])
    else:
        print_table(
            {
                "detector": lambda setting: setting.detector,
                "parameter": lambda setting: setting.parameter,
                "value": lambda setting: f"{setting.value:,.12g}",
                "from": lambda setting: setting.source,
                "range": lambda setting: f"{setting.low:,.12g} to {setting.high:,.12g}",
                "why": lambda setting: setting.why,
            },
            found,
            "",
        )
    for layer in (tuning.detectors, tuning.tiers.get(tenant.tier, {}), tenant.detectors):
        for fault in check_overrides(layer):
            complain(f"passed over: {fault}", "warning")


@app.command("set")
def set_values(
    settings: Annotated[
        list[str], typer.Argument(metavar="DETECTOR.PARAMETER=VALUE...", help="What is to hold.")
    ],
    everywhere: Everywhere = False,
    tier: OfTier = None,
    tenant: OfTenant = None,
) -> None:
    """Let values hold from the next event on: for all tenants, those of a tier, or one.

    `tenantwatch backtest --set ... --compare` shows before what they would change.
    """
    overrides = read_overrides(settings)

    def edit(layer: "Overrides") -> "dict[str, dict[str, ParameterValue]]":
        detectors = dict.fromkeys([*layer, *overrides])
        return {name: {**layer.get(name, {}), **overrides.get(name, {})} for name in detectors}

    _change(everywhere, tier, tenant, edit)
    note(f"set {written(overrides)}")


@app.command()
def unset(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="DETECTOR.PARAMETER...", help="What is to be as if it had not been set there."
        ),
    ],
    everywhere: Everywhere = False,
    tier: OfTier = None,
    tenant: OfTenant = None,
) -> None:
    """Take values back: what holds without them holds again."""
    places = [split_name(name) for name in names]

    def edit(layer: "Overrides") -> "dict[str, dict[str, ParameterValue]]":
        for detector, name in places:
            if name not in layer.get(detector, {}):
                raise fail(f"{detector}.{name} is not set there; `tenantwatch tuning show` lists what is")
        left = {
            detector: {name: value for name, value in values.items() if (detector, name) not in places}
            for detector, values in layer.items()
        }
        return {detector: values for detector, values in left.items() if values}

    _change(everywhere, tier, tenant, edit)
    note(f"unset {' '.join(names)}")


def _change(everywhere: bool, tier: TierName | None, tenant: str | None, edit: "Edit") -> None:
    """Edit one layer, send it, and wait until the running worker goes by it."""
    if [everywhere, tier is not None, tenant is not None].count(True) != 1:
        raise typer.BadParameter("say for whom", param_hint="one of --global, --tier, --tenant")
    if tenant is not None:
        change_tenant(tenant, lambda own: {"detectors": edit(own.detectors)})
    else:
        _change_many(tier, edit)


def _change_many(tier: TierName | None, edit: "Edit") -> None:
    from streams.producer import Sender
    from streams.tenant_log import read_tenant_log
    from tenantwatch.control import kafka_bootstrap
    from tenantwatch.directory import await_tuning

    settings = Settings()
    bootstrap = kafka_bootstrap(settings)
    tuning = read_tenant_log(bootstrap).tuning
    if tier is None:
        tuning = tuning.model_copy(update={"detectors": edit(tuning.detectors)})
    else:
        tiers = {**tuning.tiers, tier: edit(tuning.tiers.get(tier, {}))}
        tuning = tuning.model_copy(update={"tiers": {name: of for name, of in tiers.items() if of}})
    with Sender(bootstrap) as sender:
        sender.tuning(tuning)
    warn_unless(await_tuning(settings, tuning))
