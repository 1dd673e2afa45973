select
    owners.label as experiment,
    selection.doc_id,
    selection.snapshot,
    selection.domain,
    selection.part,
    selection."row" as row_number,
    selection.tokens,
    coalesce(selection.repeats, 1) as repeats
from {{ current_parquet(source('factory', 'selection'), {
    'doc_id': 'varchar', 'snapshot': 'varchar', 'domain': 'varchar', 'part': 'varchar', 'row': 'bigint',
    'tokens': 'bigint', 'repeats': 'bigint'}) }} as selection
join {{ current_owners(source('factory', 'selection')) }} as owners using (filename)
