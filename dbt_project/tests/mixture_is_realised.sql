-- A domain misses its share by half a percent at most, and by the one document that fills it.
with totals as (
    select experiment, sum(realised_tokens) as tokens, max(longest) as longest
    from {{ ref('mixture') }}
    group by experiment
)

select mixture.*
from {{ ref('mixture') }} as mixture
join totals using (experiment)
where totals.tokens > 0 and abs(mixture.gap) > 0.005 + totals.longest / totals.tokens
