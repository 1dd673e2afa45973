"""What a page says of itself, as columns: language, author, date, address, reservation of rights, licence.

Read from the keys an extractor and a source left in `meta` (null where nobody left any); what a page tells robots is read by
`robots`. `tdm_reserved` is the 1 of the TDM Reservation Protocol. The licence is an SPDX identifier where it is certain, with
how it was found (`rel`, `jsonld`, `meta`, `anchor`, in the order of trust) and a confidence of 0.5 + 0.5 / (k + 1) for the k-th
on the page (Dolma, arXiv:2402.00159), which is 1 for the page's own; `licenses` counts the different ones, and several mean a
page about others' works. Where a source states the licence, `license_how` is `source`.
"""

import json
from datetime import date
from typing import Any

import pyarrow as pa

from factory.core.registry import NoSettings, register
from factory.core.stage import BatchFunction
from factory.stages.licences import parse_licence

COLUMNS = {
    "html_lang": pa.string(),
    "author": pa.string(),
    "published": pa.date32(),
    "canonical_url": pa.string(),
    "tdm_reserved": pa.bool_(),
    "license_spdx": pa.string(),
    "license_how": pa.string(),
    "license_confidence": pa.float32(),
    "licenses": pa.uint16(),
}


@register("page_metadata", version=1, reads=("meta", "license"), writes=COLUMNS)
def page_metadata(config: NoSettings) -> BatchFunction:
    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        metas, licences = batch.column("meta").to_pylist(), batch.column("license").to_pylist()
        rows = [_row(meta, licence) for meta, licence in zip(metas, licences, strict=True)]
        return pa.RecordBatch.from_pylist(rows, schema=pa.schema(COLUMNS))

    return score


def _row(meta: str | None, licence: str | None) -> dict[str, Any]:
    fields = _object(meta)
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    if fields is not None:
        row |= {name: fields[name] for name in ("html_lang", "author", "canonical_url") if _is_text(fields.get(name))}
        row["published"] = _day(fields.get("published"))
        row["tdm_reserved"] = str(fields.get("tdm_reservation", "")).strip() == "1"
    listed = _list(fields.get("licenses")) if fields else []
    if licence is not None or listed:
        own = listed[0] if listed else {}
        row["license_spdx"] = parse_licence(licence).name if licence is not None else None
        row["license_how"] = str(fields["license_how"]) if fields and fields.get("license_how") else "source"
        confidence = own.get("confidence", 1.0)
        row["license_confidence"] = float(confidence) if isinstance(confidence, int | float) else None
        row["licenses"] = max(len(listed), 1)
    return row


def _object(meta: str | None) -> dict[str, Any] | None:
    try:
        made = json.loads(meta) if meta else None
    except ValueError:
        return None
    return made if isinstance(made, dict) else None


def _list(text: Any) -> list[dict[str, Any]]:
    try:
        made = json.loads(text) if isinstance(text, str) else []
    except ValueError:
        return []
    return [item for item in made if isinstance(item, dict)] if isinstance(made, list) else []


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
