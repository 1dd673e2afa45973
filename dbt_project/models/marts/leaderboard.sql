-- The leaderboard beside what it cost: the share of documents and tokens each experiment keeps.
select
    board.*,
    funnel.share_of_documents as kept_share_of_documents,
    funnel.share_of_tokens as kept_share_of_tokens
from {{ ref('stg_leaderboard') }} as board
left join {{ ref('funnel') }} as funnel on funnel.experiment = board.experiment and funnel.rule = 'kept'
order by board.rank nulls last, board.experiment
