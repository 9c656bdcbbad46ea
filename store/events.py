"""Event batches to rows of the table ``events``."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, Final

import numpy as np
import pyarrow as pa

from schemas.batch import FIELDS, Column, EventBatch, Int64s
from schemas.columns import ArrowColumn
from schemas.event import Kind
from schemas.tenant import Tenant
from store.native import encode_block

# Few distinct values each: sent as a dictionary and stored as LowCardinality.
_CODED: Final = frozenset(
    {
        "service", "token_tenant_id", "outcome", "reason", "action", "auth_method", "permission",
        "resource_type", "resource_tenant_id", "http_method", "http_route", "user_agent",
    }
)  # fmt: skip
_TYPES: Final[dict[str, Any]] = {
    "record_count": pa.int64(),
    "http_status": pa.uint16(),
    "duration_ms": pa.float64(),
    "bytes_in": pa.int64(),
    "bytes_out": pa.int64(),
}
_MS: Final = pa.timestamp("ms", "UTC")


@dataclass(frozen=True)
class KafkaIds:
    """What makes offsets unique: the same topic name may one day be another topic."""

    cluster_id: str
    topic_ids: dict[str, str]

    def columns(self, topic: str) -> dict[str, str]:
        """Return what says in a row which topic it is of."""
        return {
            "kafka_cluster_id": self.cluster_id,
            "kafka_topic_id": self.topic_ids.get(topic, ""),
            "kafka_topic": topic,
        }


def _constant(value: str, n: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), pa.array([value]))


def _has_value(name: str, column: Column) -> bool:
    if isinstance(column, ArrowColumn):
        return not column.blank
    # 0 is a number that was sent; of texts, "" is one that was not.
    return column.count(None) < len(column) if name in _TYPES else any(column)


def _array(name: str, columns: Sequence[Column]) -> Any:
    """Return columns of several batches as one array."""
    kind = _TYPES.get(name, pa.string())
    arrays = []
    for arrow, found in groupby(columns, lambda column: isinstance(column, ArrowColumn)):
        if arrow:
            arrays += [column.array.cast(kind) for column in found]  # type: ignore[attr-defined]
        else:
            # Of a second of little traffic there are hundreds, of a few rows each.
            arrays.append(pa.array(list(chain.from_iterable(found)), kind))
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def _by_setting(batches: Sequence[EventBatch]) -> tuple[Int64s, list[tuple[Tenant, int]]]:
    """Return ``(n,)`` codes of what each row was enriched with, and the settings with their versions."""
    code_of: dict[tuple[int, int], int] = {}
    settings: list[tuple[Tenant, int]] = []
    codes = []
    for batch in batches:
        table = np.empty(len(batch.tenants), np.int64)
        for i, (tenant, version) in enumerate(zip(batch.tenants, batch.tenant_versions, strict=True)):
            table[i] = code = code_of.setdefault((id(tenant), version), len(settings))
            if code == len(settings):
                settings.append((tenant, version))
        codes.append(table[batch.tenant.codes])
    return np.concatenate(codes), settings


def _texts_by_setting(codes: Int64s, texts: Sequence[str]) -> Any:
    """Spread one text for each setting, as a dictionary: the texts themselves are never copied."""
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    places = np.array([place[text] for text in texts], np.int32)[codes]
    return pa.DictionaryArray.from_arrays(pa.array(places), pa.array(list(place), pa.string()))


def _per_batch(batches: Sequence[EventBatch], values: Sequence[Any], dtype: Any) -> Any:
    return np.repeat(np.array(values, dtype), [len(b) for b in batches])


def encode(kind: Kind, batches: Sequence[EventBatch], ids: KafkaIds) -> tuple[list[str], bytes]:
    """Return the columns and the rows of enriched batches of one kind, in the Native format.

    Columns in which no event has a value are left out: the table's defaults stand for them.

    Parameters
    ----------
    batches
        Enriched and admitted, of any topic partitions; at least one row in all.
    """
    n = sum(map(len, batches))
    arrays: dict[str, Any] = {}
    for name in FIELDS[kind]:
        columns = [batch.columns[name] for batch in batches]
        if any(_has_value(name, column) for column in columns):
            array = _array(name, columns)
            arrays[name] = array.dictionary_encode() if name in _CODED else array
    arrays["kind"] = _constant(kind, n)
    arrays["time"] = pa.array(np.concatenate([b.time_ms for b in batches]), _MS)
    codes, settings = _by_setting(batches)
    for name, attribute in (
        ("organization_id", "organization_id"),
        ("tier", "tier"),
        ("region", "region"),
        ("tenant_status", "status"),
    ):
        texts = [getattr(tenant, attribute) for tenant, _ in settings]
        arrays[name] = _texts_by_setting(codes, texts)
    arrays["tenant_version"] = pa.array(np.array([version for _, version in settings], np.int64)[codes])
    # Always: where another block of the insert has the column, what this one lacked would be 0.
    versions = [batch.tuning_version for batch in batches]
    arrays["tuning_version"] = pa.array(_per_batch(batches, versions, np.int64))
    arrays["ingest_time"] = pa.array(_per_batch(batches, [b.ingest_time_ms for b in batches], np.int64), _MS)
    flags = [b.flags if b.flags is not None else np.zeros(len(b), np.uint8) for b in batches]
    arrays["flags"] = pa.array(np.concatenate(flags))
    topic = batches[0].topic
    arrays |= {name: _constant(value, n) for name, value in ids.columns(topic).items()}
    arrays["kafka_partition"] = pa.array(_per_batch(batches, [b.partition for b in batches], np.int32))
    arrays["kafka_offset"] = pa.array(np.concatenate([b.offset for b in batches]))
    arrays["message_index"] = pa.array(np.concatenate([b.message_index for b in batches]).astype(np.uint16))
    return list(arrays), encode_block(arrays)
