select part, "row" as row_number, coalesce(tokens, 0) as tokens
from {{ current_parquet(source('factory', 'encodings'), {'part': 'varchar', 'row': 'bigint', 'tokens': 'bigint'}) }}
