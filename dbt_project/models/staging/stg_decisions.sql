select
    owners.label as experiment,
    owners.partition as snapshot,
    decisions.part,
    decisions."row" as row_number,
    decisions.failed,
    len(decisions.failed) = 0 as kept
from {{ current_parquet(source('factory', 'decisions'), {'part': 'varchar', 'row': 'bigint', 'failed': 'varchar[]'}) }} as decisions
join {{ current_owners(source('factory', 'decisions')) }} as owners using (filename)
