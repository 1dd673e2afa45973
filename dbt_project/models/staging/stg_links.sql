select
    owners.label as linker,
    owners.partition as snapshot,
    links.part,
    links."row" as row_number,
    links.duplicate_of,
    links.cluster,
    links.cluster_size,
    links.max_similarity,
    links.removed_bytes,
    links.removed_share
from {{ current_parquet(source('factory', 'links'), {
    'part': 'varchar', 'row': 'bigint', 'duplicate_of': 'varchar', 'cluster': 'varchar', 'cluster_size': 'bigint',
    'max_similarity': 'double', 'removed_bytes': 'bigint', 'removed_share': 'double'}) }} as links
join {{ current_owners(source('factory', 'links')) }} as owners using (filename)
