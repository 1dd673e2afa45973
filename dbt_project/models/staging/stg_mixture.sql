select
    owners.label as experiment,
    mixture.domain,
    mixture.documents,
    mixture.available_tokens,
    mixture.epochs,
    mixture.asked_tokens,
    mixture.asked_share
from {{ current_parquet(source('factory', 'mixture'), {
    'domain': 'varchar', 'documents': 'bigint', 'available_tokens': 'bigint', 'epochs': 'double',
    'asked_tokens': 'double', 'asked_share': 'double'}) }} as mixture
join {{ current_owners(source('factory', 'mixture')) }} as owners using (filename)
