-- What was asked of every domain and what the token file holds.
with read as (
    select experiment, domain, sum(tokens_read) as realised_tokens, max(length) as longest
    from {{ ref('stg_tokens') }}
    group by experiment, domain
),

realised as (
    select *, realised_tokens / nullif(sum(realised_tokens) over (partition by experiment), 0) as realised_share
    from read
)

select
    asked.*,
    coalesce(realised.realised_tokens, 0) as realised_tokens,
    coalesce(realised.realised_share, 0) as realised_share,
    coalesce(realised.realised_share, 0) - asked.asked_share as gap,
    coalesce(realised.longest, 0) as longest
from {{ ref('stg_mixture') }} as asked
left join realised using (experiment, domain)
order by experiment, asked_share desc, domain
