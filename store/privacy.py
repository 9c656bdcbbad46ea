"""A person's rights, and the operator's duties: export, forget, hold, release, rotate, report."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import structlog

from schemas.event import KINDS
from schemas.personal import is_identifier, is_pseudonym, normalised, pseudonyms_in
from store.certificates import Sign, TopicRetention, certificate, raw_copies
from store.database import Database
from store.holds import WHOLE_TENANT, Hold, active, check_free, place, release
from store.master_key import MasterKeyError, MasterKeys
from store.people import alerts_of, counts, dealings_with, events_of, notes_about
from store.privacy_log import entries, record
from store.queries import MAX_ROWS, Scope, TenantContext
from store.seals.bounded import EARLIEST, LATEST
from store.vault import Rotation, Vault
from store.webhook_secrets import OpenBox

log = structlog.get_logger()
# Asks Kafka; None where it cannot be asked.
AskKafka = Callable[[], Mapping[str, TopicRetention] | None]


class NotPseudonymous(Exception):
    """The trail holds a person as what never became a pseudonym; the message says what to do."""


class Privacy:
    """What is done with personal data; each of these is noted in ``privacy_log``.

    Whether somebody may is not judged here: the routes that call this ask for ``pii:read`` (export) and
    ``privacy:manage``.

    Parameters
    ----------
    database, vault
        Where the trail and the originals are.
    ask_kafka
        Tells how long Kafka keeps the raw copies.
    sign
        Signs certificates.
    master_change
        Returns a context in which there is a new master key before the present one.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        ask_kafka: AskKafka = lambda: None,
        sign: Sign | None = None,
        master_change: Callable[[], AbstractContextManager[MasterKeys]] | None = None,
    ) -> None:
        self._database = database
        self.vault = vault
        self._ask_kafka = ask_kafka
        self._sign = sign
        self._master_change = master_change

    def pseudonyms(self, tenant: TenantContext, subjects: Sequence[str]) -> list[str]:
        """Return the pseudonym of each subject, given by an original or by a pseudonym."""
        return list(dict.fromkeys(self.vault.pseudonym(tenant.tenant_id, subject) for subject in subjects))

    def _plain(self, tenant: TenantContext, subjects: Sequence[str]) -> list[str]:
        """Return as what subjects may stand in the trail besides their pseudonyms.

        A tenant may keep addresses as they are, and events from before the vault hold them.
        """
        known = self.vault.originals(tenant, self.pseudonyms(tenant, subjects)).values()
        named = [one for one in (*subjects, *known) if not is_pseudonym(one)]
        return list(dict.fromkeys(form for one in named for form in (one, normalised(one))))

    def _known_as(self, tenant: TenantContext, subjects: Sequence[str]) -> list[str]:
        """Return what may stand in the trail for subjects."""
        return [*self.pseudonyms(tenant, subjects), *self._plain(tenant, subjects)]

    def _stored_plain(self, tenant: TenantContext, subjects: Sequence[str]) -> dict[str, int]:
        """Return as what else than pseudonyms subjects do stand in events, and in how many."""
        plain = self._plain(tenant, subjects)
        if not counts(self._database, tenant, plain)["events"]:  # of nearly everybody: one look for all
            return {}
        found = {one: counts(self._database, tenant, [one])["events"] for one in plain}
        return {one: events for one, events in found.items() if events}

    def _check_pseudonymous(self, tenant: TenantContext, subjects: Sequence[str]) -> None:
        if stored := self._stored_plain(tenant, subjects):
            raise NotPseudonymous(
                f"{max(stored.values()):,} events of {tenant.tenant_id} hold a subject as it is, who cannot "
                'be forgotten: set `"personal_data": {"user_id": "always"}` for the tenant; new events hold '
                "pseudonyms from then on, and these age out"
            )

    def export(
        self, tenant: TenantContext, subjects: Sequence[str], *, actor: str, reason: str
    ) -> Iterator[dict[str, Any]]:
        """Yield everything about a person.

        First what is known of them; then their events, every revision of the alerts that speak of them and
        what people wrote about these, and who read, exported or held them, this export included.

        Their own pseudonyms are written out; those of others stay, and are listed masked, because an event
        may speak of two people.
        """
        # Not what they may stand as in the trail: an original that is noted outlives its forgetting.
        record(self._database, "export", tenant.tenant_id, self.pseudonyms(tenant, subjects), actor, reason)
        own = self._known_as(tenant, subjects)
        originals = self.vault.originals(tenant, own)
        held = [asdict(hold) for hold in active(self._database, tenant) if hold.pseudonym in own]
        rows = counts(self._database, tenant, own)
        yield {
            "type": "subject",
            "tenant_id": tenant.tenant_id,
            "pseudonyms": {
                one: originals.get(one) for one in own if is_pseudonym(one) or not is_identifier(one)
            },
            "exported_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "rows": rows,
            "holds": [{**hold, "placed_at": hold["placed_at"].isoformat()} for hold in held],
        }
        others: dict[str, None] = {}
        for kind, found in (
            ("event", events_of(self._database, tenant, own)),
            ("alert", alerts_of(self._database, tenant, own)),
            ("alert_note", notes_about(self._database, tenant, own)),
            ("dealing", dealings_with(self._database, tenant, own)),
        ):
            for row in found:
                text = json.dumps(row, ensure_ascii=False)
                others |= dict.fromkeys(pseudonyms_in([text]))
                for pseudonym, original in originals.items():
                    text = text.replace(pseudonym, json.dumps(original, ensure_ascii=False)[1:-1])
                yield {"type": kind, **json.loads(text)}
        beside = [one for one in others if one not in own]
        yield {"type": "others", "masked": self.vault.masked(tenant, beside), "pseudonyms": beside}

    def unmet(self, tenant: TenantContext, subjects: Sequence[str]) -> list[str]:
        """Return those of whom nothing is stored: never met, misspelt, or gone with their last event."""
        known = self.vault.originals(tenant, self.pseudonyms(tenant, subjects))
        return [
            one
            for one in subjects
            if self.vault.pseudonym(tenant.tenant_id, one) not in known
            and not any(counts(self._database, tenant, self._known_as(tenant, [one])).values())
        ]

    def forget(
        self, tenant: TenantContext, subjects: Sequence[str], *, actor: str, reason: str, now: datetime
    ) -> dict[str, Any]:
        """Forget people, and return the certificate, which is kept too.

        Raises
        ------
        Held
            If a legal hold forbids it.
        NotPseudonymous
            If the trail holds a subject as it is.
        VaultBusy
            If it could not be seen in time that the bytes are gone.
        """
        own = self.pseudonyms(tenant, subjects)
        check_free(self._database, tenant, self._known_as(tenant, subjects))
        self._check_pseudonymous(tenant, subjects)
        certificate_id = uuid4().hex
        removed = self.vault.shred(tenant.tenant_id, own, certificate_id, now)
        told = certificate(
            certificate_id=certificate_id,
            tenant_id=tenant.tenant_id,
            pseudonyms=own,
            actor=actor,
            reason=reason,
            now=now,
            removed=removed,
            kept=counts(self._database, tenant, own),
            kafka=raw_copies(self._ask_kafka(), now),
            sign=self._sign,
        )
        record(self._database, "forget", tenant.tenant_id, own, actor, reason, told, certificate_id)
        log.info("people_forgotten", tenant_id=tenant.tenant_id, people=len(own), **removed)
        return told

    def note_reading(self, tenant_id: str, actor: str, reason: str) -> None:
        """Note that somebody read originals by another way than the vault, e.g. in a dead letter."""
        record(self._database, "reveal", tenant_id, [], actor, reason)

    def certificates(self, scope: Scope, certificate_id: str | None = None) -> list[dict[str, Any]]:
        """Return certificates, the latest first, one more than `MAX_ROWS` at most."""
        found = entries(self._database, scope, action="forget", entry_id=certificate_id, limit=MAX_ROWS + 1)
        return [entry["body"] for entry in found]

    def hold(
        self, tenant: TenantContext, subject: str | None, *, actor: str, reason: str, now: datetime
    ) -> Hold:
        """Place a legal hold on a person, or on the whole tenant."""
        people = [subject] if subject else []
        whom = self.pseudonyms(tenant, people)
        # Only what is there: whoever is met afterwards as an attribute would stay in `legal_holds` by name.
        plain = [*self._stored_plain(tenant, people)]
        stored = whom[0] if whom else WHOLE_TENANT
        hold = place(self._database, tenant, stored, plain, reason=reason, actor=actor, now=now)
        record(self._database, "hold", tenant.tenant_id, whom, actor, reason, {"hold_id": hold.hold_id})
        return hold

    def holds(self, scope: Scope) -> list[Hold]:
        """Return the holds that are not released."""
        return active(self._database, scope)

    def release(
        self, tenant: TenantContext, hold_ids: Sequence[str], *, actor: str, reason: str, now: datetime
    ) -> list[Hold]:
        """Release holds, and return those that were there."""
        released = release(self._database, tenant, hold_ids, actor=actor, now=now)
        for hold in released:
            whom = self.pseudonyms(tenant, [hold.pseudonym] if hold.pseudonym else [])
            record(
                self._database, "release", tenant.tenant_id, whom, actor, reason, {"hold_id": hold.hold_id}
            )
        return released

    def rotate(
        self, tenant_id: str | None, *, master: bool = False, actor: str, reason: str, now: datetime
    ) -> Rotation:
        """Change keys (`Vault.rotate`).

        Parameters
        ----------
        master
            The master key too, where it is in a file of ours; of all tenants only.

        Raises
        ------
        MasterKeyError
            If the master key is to change for one tenant, or cannot be changed.
        """
        if master and tenant_id:
            # The others' keys would stay wrapped by the earlier master key, and that is deleted.
            raise MasterKeyError("the master key is every tenant's: rotate it without naming a tenant")
        if master and self._master_change is not None:
            with self._master_change() as masters:
                self.vault.keys.masters = masters
                done = self.vault.rotate(now, tenant_id)
            self.vault.keys.masters = MasterKeys(masters.current)
        else:
            done = self.vault.rotate(now, tenant_id)
        record(self._database, "rotate_keys", tenant_id or "", [], actor, reason, asdict(done))
        return done

    def report(self, scope: Scope, since: datetime) -> dict[str, Any]:
        """Return what was deleted since a time and why: by age, by people's wish; and what is held.

        Of each list at most the latest `MAX_ROWS`; ``cut`` names those that had more.
        """
        since = min(max(since, EARLIEST), LATEST)
        condition, bound = scope.condition()
        aged = self._database.query(
            "SELECT run_at, tenant_id, kind, retention_days, cutoff, sum(rows_removed) AS rows_removed "
            f"FROM retention_runs WHERE {condition} AND run_at >= {{since:DateTime64(3)}} "
            "GROUP BY run_at, tenant_id, kind, retention_days, cutoff "
            f"ORDER BY run_at DESC, tenant_id, kind LIMIT {MAX_ROWS + 1}",
            {**bound, "since": since},
        )
        noted = entries(self._database, scope, since=since, limit=MAX_ROWS + 1)
        forgotten = entries(self._database, scope, action="forget", since=since, limit=MAX_ROWS + 1)
        found = {"aged_out": aged, "forgotten": forgotten, "noted": noted}
        return {
            "cut": [name for name, rows in found.items() if len(rows) > MAX_ROWS],
            "aged_out": [
                {
                    **row,
                    "why": f"older than {row['retention_days']} days, the tenant's {_setting(row['kind'])}",
                }
                for row in reversed(aged[:MAX_ROWS])
            ],
            "forgotten": [
                {
                    "at": entry["at"],
                    "tenant_id": entry["tenant_id"],
                    "people": len(entry["pseudonyms"]),
                    "certificate_id": entry["entry_id"],
                    "requested_by": entry["actor"],
                    "why": entry["reason"],
                }
                for entry in forgotten[:MAX_ROWS]
            ],
            "held": [asdict(hold) for hold in self.holds(scope)],
            "noted": [
                {name: entry[name] for name in ("at", "action", "tenant_id", "actor", "reason")}
                | {"people": len(entry["pseudonyms"])}
                for entry in noted[:MAX_ROWS]
            ],
        }


def _setting(kind: str) -> str:
    return "setting for its kind" if kind in KINDS else "longest setting of any kind"


def box_of(privacy: Privacy | None) -> OpenBox | None:
    """Return what opens webhooks' secrets where the vault is open; None: nothing does here."""
    return None if privacy is None else lambda: privacy.vault.webhook_secrets
