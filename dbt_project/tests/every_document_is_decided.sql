-- An experiment has a verdict on every document of the snapshots it covers, and on nothing else.
select decisions.experiment, documents.part, documents.documents, count(*) as decided
from {{ ref('stg_decisions') }} as decisions
left join {{ ref('stg_parts') }} as documents using (part)
group by all
having count(*) <> coalesce(documents.documents, -1)
