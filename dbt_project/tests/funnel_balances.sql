-- Every document is kept or dropped by exactly one first rule.
select experiment, any_value(all_documents) as documents, sum(first_documents) as accounted
from {{ ref('funnel') }}
group by experiment
having sum(first_documents) <> any_value(all_documents)
