select
    owners.label as experiment,
    selection.doc_id,
    selection.snapshot,
    selection.domain,
    selection.part,
    selection."row" as row_number,
    selection.tokens
from {{ current_parquet(source('factory', 'selection'), {
    'doc_id': 'varchar', 'snapshot': 'varchar', 'domain': 'varchar', 'part': 'varchar', 'row': 'bigint',
    'tokens': 'bigint'}) }} as selection
join {{ current_owners(source('factory', 'selection')) }} as owners using (filename)
