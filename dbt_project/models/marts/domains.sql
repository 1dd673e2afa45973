-- What each experiment keeps of each host and source.
select
    decisions.experiment,
    documents.source,
    coalesce(documents.host, 'unknown') as host,
    count(*) as documents,
    count(*) filter (decisions.kept) as kept_documents,
    sum(encodings.tokens) as tokens,
    coalesce(sum(encodings.tokens) filter (decisions.kept), 0) as kept_tokens,
    count(documents.error) as errors,
    count(distinct documents.snapshot) as snapshots
from {{ ref('stg_decisions') }} as decisions
join {{ ref('stg_documents') }} as documents using (part, row_number)
join {{ ref('stg_encodings') }} as encodings using (part, row_number)
group by all
order by experiment, tokens desc, source, host
