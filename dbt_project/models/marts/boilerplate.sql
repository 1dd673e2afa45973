-- What linkers of spans and paragraphs remove of each host: menus, footers, notices, passages seen before.
select
    links.linker,
    coalesce(documents.host, 'unknown') as host,
    count(*) as documents,
    count(*) filter (links.removed_bytes > 0) as changed_documents,
    count(*) filter (links.removed_share >= 1) as emptied_documents,
    sum(links.removed_bytes) as removed_bytes,
    avg(links.removed_share) as mean_removed_share
from {{ ref('stg_links') }} as links
join {{ ref('stg_documents') }} as documents using (part, row_number)
where links.removed_bytes is not null
group by all
order by linker, removed_bytes desc, host
