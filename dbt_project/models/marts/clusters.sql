-- How many clusters of each size every linker found that elects documents. A document alone is a cluster of one.
with clusters as (
    select linker, coalesce(cluster, part || ' ' || row_number) as cluster, count(*) as members
    from {{ ref('stg_links') }}
    where cluster_size is not null
    group by all
)

select linker, members, count(*) as clusters, sum(members) as documents
from clusters
group by linker, members
order by linker, members
