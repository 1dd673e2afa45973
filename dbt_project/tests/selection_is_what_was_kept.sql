-- The selection holds the kept documents, no more and no fewer. An experiment without a selection yet is left out.
with kept as (
    select experiment, count(*) filter (kept) as documents
    from {{ ref('stg_decisions') }}
    group by experiment
),

selected as (
    select experiment, count(*) as documents
    from {{ ref('stg_selection') }}
    group by experiment
)

select experiment, kept.documents as kept, selected.documents as selected
from kept
join selected using (experiment)
where kept.documents <> selected.documents
