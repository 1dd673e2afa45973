-- What every rule costs: documents and tokens that fail it at all, that fail it first, and that fail nothing else. The
-- rows 'kept' and 'error' stand beside the rules, so that `first_documents` adds up to all documents.
with decided as (
    select decisions.experiment, decisions.failed, encodings.tokens
    from {{ ref('stg_decisions') }} as decisions
    join {{ ref('stg_encodings') }} as encodings using (part, row_number)
),

failures as (
    select
        experiment,
        unnest(failed) as rule,
        generate_subscripts(failed, 1) = 1 as is_first,
        len(failed) = 1 as is_only,
        tokens
    from decided
),

rules as (
    select
        experiment,
        rule,
        count(*) as failed_documents,
        sum(tokens) as failed_tokens,
        count(*) filter (is_first) as first_documents,
        coalesce(sum(tokens) filter (is_first), 0) as first_tokens,
        count(*) filter (is_only) as only_documents,
        coalesce(sum(tokens) filter (is_only), 0) as only_tokens
    from failures
    group by all
),

kept as (
    select
        experiment,
        'kept' as rule,
        0 as failed_documents,
        0 as failed_tokens,
        count(*) filter (len(failed) = 0) as first_documents,
        coalesce(sum(tokens) filter (len(failed) = 0), 0) as first_tokens,
        0 as only_documents,
        0 as only_tokens
    from decided
    group by experiment
),

totals as (
    select experiment, count(*) as documents, sum(tokens) as tokens
    from decided
    group by experiment
)

select
    funnel.*,
    totals.documents as all_documents,
    totals.tokens as all_tokens,
    funnel.first_documents / nullif(totals.documents, 0) as share_of_documents,
    funnel.first_tokens / nullif(totals.tokens, 0) as share_of_tokens
from (select * from rules union all select * from kept) as funnel
join totals using (experiment)
order by experiment, rule = 'kept', first_documents desc, rule
