"""Great Expectations on a bounded sample of the documents: what a document row has to look like, whatever the source.

The library's own gates count every row; this suite looks at a few thousand of them the way an auditor would. Critical
expectations block, the others warn. The import takes seconds and is made when the first documents have to pass.
"""

import os
import warnings
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from factory.core.manifest import Manifest, Part
from factory.recipes.gates import Check
from factory.storage.parts import iterate_part
from factory.storage.store import Store

PARTS, ROWS = 8, 500
COLUMNS = ("doc_id", "text", "url", "host", "date", "snapshot", "source", "error")
MAX_CHARACTERS = 100_000_000


def expect_documents(store: Store, manifest: Manifest) -> Check:
    """The gate `expectations` of a documents dataset."""
    sample = sample_documents(store, manifest)
    if not sample.num_rows:
        return Check("expectations", True, True, "no row to look at")
    results = _validate(sample, manifest.partition)
    failed = [result for result in results if not result["success"]]
    critical = [result for result in failed if result["severity"] == "critical"]
    text = f"{len(results) - len(failed)} of {len(results)} expectations met by {sample.num_rows:,} sampled rows"
    if failed:
        text += "; not met: " + ", ".join(f"{item['what']} ({item['observed']})" for item in [*critical, *failed][:3])
    return Check("expectations", not failed, not failed or bool(critical), text)


def sample_documents(store: Store, manifest: Manifest) -> pa.Table:
    """The first rows of a few evenly chosen parts, with the length of the text in its place."""
    chosen = [part for part in manifest.parts if part.rows]
    chosen = chosen[:: max(1, len(chosen) // PARTS)][:PARTS]
    tables = [_head(store, part) for part in chosen]
    return pa.concat_tables(tables) if tables else pa.table({name: [] for name in COLUMNS})


def _head(store: Store, part: Part) -> pa.Table:
    batch = next(iterate_part(store, part, COLUMNS, rows=ROWS))
    table = pa.Table.from_batches([batch])
    characters = pc.utf8_length(table.column("text")).cast(pa.float64())
    return table.set_column(table.schema.get_field_index("text"), "characters", characters)


def _validate(sample: pa.Table, snapshot: str) -> list[dict[str, Any]]:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
        import pandas as pd  # type: ignore[import-untyped,unused-ignore]

        frame = sample.to_pandas()
        # One of the two, never both and never neither: said as a column, since no expectation compares two for null.
        frame["text_or_error"] = frame["characters"].notna() != frame["error"].notna()
        # As a number: dates of a frame and of a suite are compared with a type error in some versions of pandas.
        frame["year"] = pd.to_datetime(frame["date"], utc=True).dt.year.astype("float64")
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}  # type: ignore[assignment,unused-ignore]
        source = context.data_sources.add_pandas("documents").add_dataframe_asset("sample")
        batch = source.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
        suite = gx.ExpectationSuite(name="documents", expectations=_expectations(gx, snapshot, frame))
        result = batch.validate(suite)
    return [_plain(item) for item in result.results]


def _expectations(gx: Any, snapshot: str, frame: Any) -> list[Any]:
    expect = gx.expectations
    found = [
        expect.ExpectColumnValuesToNotBeNull(column="doc_id", severity="critical"),
        expect.ExpectColumnValuesToBeUnique(column="doc_id", severity="critical"),
        expect.ExpectColumnValuesToMatchRegex(column="doc_id", regex="^[0-9a-f]{32}$", severity="critical"),
        expect.ExpectColumnValuesToBeInSet(column="snapshot", value_set=[snapshot], severity="critical"),
        expect.ExpectColumnValuesToNotBeNull(column="source", severity="critical"),
        expect.ExpectColumnValuesToBeInSet(column="text_or_error", value_set=[True], severity="critical"),
    ]
    # Without a single value a column has the wrong type to be compared; its absence is no fault.
    if frame["characters"].notna().any():
        found.append(
            expect.ExpectColumnValuesToBeBetween(
                column="characters", min_value=1, max_value=MAX_CHARACTERS, severity="critical"
            )
        )
    if frame["url"].notna().any():
        pattern = r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$"
        found.append(
            expect.ExpectColumnValuesToMatchRegex(column="url", regex=pattern, mostly=0.99, severity="warning")
        )
    if frame["host"].notna().any():
        found.append(
            expect.ExpectColumnValuesToMatchRegex(column="host", regex=r"^[^\s/]+$", mostly=0.99, severity="warning")
        )
    if frame["year"].notna().any():
        found.append(
            expect.ExpectColumnValuesToBeBetween(
                column="year", min_value=1990, max_value=2100, mostly=0.99, severity="warning"
            )
        )
    return found


def _plain(item: Any) -> dict[str, Any]:
    config = item.expectation_config
    observed = item.result.get("partial_unexpected_list") or item.result.get("observed_value")
    severity = getattr(config.severity, "value", config.severity) or "critical"
    what = f"{config.kwargs.get('column')} {config.type.removeprefix('expect_column_values_to_').replace('_', ' ')}"
    return {"what": what, "severity": severity, "success": bool(item.success), "observed": str(observed)[:120]}
