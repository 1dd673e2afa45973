-- Clusters hold the documents that a linker linked, each once.
with linked as (
    select linker, count(*) as documents
    from {{ ref('stg_links') }}
    where cluster_size is not null
    group by linker
)

select linker, linked.documents as linked, sum(clusters.documents) as clustered
from linked
join {{ ref('clusters') }} as clusters using (linker)
group by linker, linked.documents
having linked.documents <> sum(clusters.documents)
