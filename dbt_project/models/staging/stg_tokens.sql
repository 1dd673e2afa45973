select
    owners.label as experiment,
    tokens.doc_id,
    tokens.domain,
    tokens.length,
    tokens.repeats,
    tokens.length * tokens.repeats as tokens_read
from {{ current_parquet(source('factory', 'tokens'), {
    'doc_id': 'varchar', 'domain': 'varchar', 'length': 'bigint', 'repeats': 'bigint'}) }} as tokens
join {{ current_owners(source('factory', 'tokens')) }} as owners using (filename)
