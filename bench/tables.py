"""The tables of docs/performance.md, scaling.md and detection.md, made of the benchmarks' JSON in ``build/``.

A table stands between ``<!-- numbers: NAME -->`` and ``<!-- end -->``. What was not measured since the last
time is left as it is.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from bench import detection_tables
from bench.markdown import table
from bench.running import REPOSITORY

BUILD: Final = REPOSITORY / "build"
DOCS: Final = tuple(
    REPOSITORY / f"docs/{name}.md" for name in ("performance", "scaling", "detection", "trail")
)
_PLACE: Final = re.compile(r"(<!-- numbers: ([a-z-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
Result = dict[str, Any]


def throughput(found: Result) -> str:
    """`make bench`."""
    rows = [
        ("end to end", found["events_per_s"], ""),
        (
            "plain Faust agent",
            found["plain_faust_events_per_s"],
            f"{found['ratio_to_plain_faust']} times as fast",
        ),
        (
            "validate and insert, no detectors",
            found["no_detectors_events_per_s"],
            f"{found['ratio_to_no_detectors']} of it",
        ),
    ]
    stages = ", ".join(f"{stage} {spent}" for stage, spent in found["stages_us"].items())
    return table(("what", "events/s", "end to end is"), rows) + (
        f"\n{found['events']:,} events, {found['tenants']:,} tenants, {found['users']:,} users; peak memory "
        f"{found['peak_memory_mb']:,} MiB. µs of wall clock an event by stage, some at the same time: "
        f"{stages}.\n"
    )


def latency(found: Result) -> str:
    """`make bench-latency`."""
    names = ("p50_ms", "p99_ms", "max_ms")
    rows = [
        (
            int(run["rate"]),
            run["partitions"],
            *(run["produce_to_alert"].get(name, "-") for name in names),
            *(run["produce_to_webhook"].get(name, "-") for name in names[:2]),
            run["cpu_percent_of_a_core"],
            run["produce_to_alert"]["n"],
        )
        for run in found["runs"]
    ]
    head = (
        "events/s",
        "partitions",
        "alert p50 ms",
        "p99",
        "max",
        "webhook p50 ms",
        "p99",
        "worker, % of a core",
        "attacks",
    )
    return table(head, rows)


def soak(found: Result) -> str:
    """`make bench-soak`."""
    rows = [
        ("at the start", found["rss_mb_at_start"]),
        ("when every user is known", found["rss_mb_with_all_users"]),
        ("peak", found["peak_mb"]),
        ("slope over the second half, MiB a minute", found["slope_mb_per_minute"]),
    ]
    return table(("resident", "MiB"), rows) + (
        f"\n{found['users']:,} users in {found['tenants']:,} tenants, {found['rate']:,.0f} events/s "
        f"for {found['minutes']:g} minutes.\n"
    )


def peers(found: Result) -> str:
    """`make bench-peers`."""
    rows = [
        (
            one["job"],
            one["who"],
            one["events_per_s"],
            one["cpu_us_per_event"],
            one.get("server_cpu_us_per_event", "-"),
            one["peak_memory_mb"],
        )
        for one in found["results"]
    ]
    head = ("job", "who", "events/s", "CPU µs an event", "of the server", "peak MiB")
    return table(head, rows) + f"\n{found['events']:,} events of {found['tenants']:,} tenants.\n"


def floods(found: Result) -> str:
    """`make bench-floods`."""
    rows = [
        (
            phase,
            where.replace("_", " "),
            *(one.get(name, "-") for name in ("p50_ms", "p99_ms", "max_ms", "n")),
        )
        for phase, places in found["produce_to_alert"].items()
        for where, one in places.items()
    ]
    return table(("flood", "other tenants in", "p50 ms", "p99", "max", "attacks"), rows) + (
        f"\n{found['rate']:,.0f} events/s of all tenants; the flood adds {found['flood_rate']:,.0f} of one.\n"
    )


def unit_costs(found: Result) -> str:
    """`make bench-scaling`, what an event costs."""
    names = ("worker_us", "loop_us", "server_us", "kafka_us", "stored_bytes", "kafka_bytes")
    rows = [(one["workers"], *(one["cost"][name] for name in names)) for one in found["measured"]]
    head = ("workers", "worker µs", "of it the loop", "ClickHouse µs", "Kafka µs", "stored bytes", "in Kafka")
    return table(head, rows)


def check(found: Result) -> str:
    """`make bench-scaling`, prediction and measurement."""
    rows = [
        (one["workers"], one["predicted_events_per_s"], one["events_per_s"], max(one["rss_mb_each"]))
        for one in found["measured"]
    ]
    return table(("workers", "predicted events/s", "measured", "MiB each"), rows)


def model(found: Result) -> str:
    """`make bench-scaling`, what more events need."""
    rows = [(int(one["rate"]), *(v for name, v in one.items() if name != "rate")) for one in found["model"]]
    head = ("events/s", *(name.replace("_", " ") for name in found["model"][0] if name != "rate"))
    return table(head, rows)


def computer(found: Result) -> str:
    """Whatever measured last."""
    here = found["machine"]
    return (
        f"{here['cpus']} cores ({here['cpu_model']}), {here['memory_gb']:g} GiB, Linux {here['kernel']}, "
        f"Python {here['python']}.\n"
    )


def trail_seals(found: Result) -> str:
    """`python -m bench.trail_seals --pipeline`."""
    store, piped = found["store"], found.get("pipeline")
    rows = [
        ("seal, µs of CPU an event", store["seal_us_per_event"], f"{store['seals']:,} seals"),
        ("verify, s", store["verify_s"], f"{store['rows']:,} rows, {store['tenants']:,} tenants"),
        ("back up, s", store["backup_s"], f"{store['backup_bytes'] / 1e6:,.0f} MB, all tables"),
        ("restore, s", store["restore_s"], f"{store['backup_rows']:,} rows"),
        ("verify what was restored, s", store["verify_restored_s"], "equal seals"),
        (
            "seals on disk, bytes an event",
            store["seal_bytes_per_event"],
            f"events take {store['event_bytes']}",
        ),
    ]
    if gone := store.get("forgetting"):
        spoken_of = f"{gone['rows_that_speak_of_them']:,} rows speak of them"
        rows[2:2] = [
            (f"forget {gone['people']} people, s", gone["forget_s"], spoken_of),
            ("verify afterwards, s", gone["verify_s"], "holds" if gone["holds"] else "**does not hold**"),
            (
                "files with a byte of them afterwards",
                gone["files_with_them"] + gone["backup_files_with_them"],
                f"of {gone['searched_files']:,} of the store and those of the backup, unpacked",
            ),
        ]
    if tampered := store.get("tampering"):
        named = f"{sum(tampered.values())} of {len(tampered)} kinds are named"
        rows.append(("verify after tampering, s at most", store["verify_tampered_s"], named))
    if piped:
        rate, cpu = piped["events_per_s"], piped["cpu_us_per_event"]
        rows += [
            ("pipeline without seals, events/s", rate["unsealed"], f"{cpu['unsealed']} µs of CPU an event"),
            (
                "pipeline as it is, events/s",
                rate["pipeline"],
                f"{cpu['pipeline']} µs; {piped['pipeline_to_unsealed']} of it",
            ),
            (
                "pipeline, until every row is sealed, events/s",
                rate["sealed"],
                f"{cpu['sealed']} µs; {piped['sealed_to_unsealed']} of it",
            ),
        ]
    load = found["machine"]["load_before"]
    return table(("what", "", ""), rows) + f"\nThe machine's load was {load} when it began.\n"


# What makes the files anew.
COMMANDS: Final = {
    **{file: f"make bench-{file}" for file in ("latency", "soak", "peers", "floods", "scaling", "detection")},
    "bench": "make bench",
    "trail_seals": "python -m bench.trail_seals --people 100 --pipeline",
}
TABLES: Final[dict[str, tuple[str, Callable[[Result], str]]]] = {
    "machine": ("latency", computer),
    "throughput": ("bench", throughput),
    "latency": ("latency", latency),
    "soak": ("soak", soak),
    "peers": ("peers", peers),
    "floods": ("floods", floods),
    "unit-costs": ("scaling", unit_costs),
    "check": ("scaling", check),
    "model": ("scaling", model),
    "trail-seals": ("trail_seals", trail_seals),
}


def rendered(name: str) -> str | None:
    """Return a table; None if it was not measured, or by an earlier version of its benchmark."""
    detection = name in detection_tables.TABLES
    file = "detection" if detection else TABLES[name][0]
    found = _read(file)
    try:
        if detection:
            return detection_tables.rendered(name, found or {})
        return None if found is None else TABLES[name][1](found)
    except KeyError as missing:
        print(f"{name} left as it is: build/{file}.json has no {missing}; `{COMMANDS[file]}` makes it anew")
        return None


def _read(file: str) -> Result | None:
    path = BUILD / f"{file}.json"
    return json.loads(path.read_text()) if path.exists() else None


def filled(text: str) -> str:
    """Return a document with its tables made anew."""

    def fill(place: re.Match[str]) -> str:
        begin, name, before, end = place.groups()
        return begin + (rendered(name) or before) + end

    return _PLACE.sub(fill, text)


def main() -> None:
    """Rewrite the documents."""
    for path in DOCS:
        path.write_text(filled(path.read_text()))
        print(f"{path.relative_to(REPOSITORY)} written")


if __name__ == "__main__":
    main()
