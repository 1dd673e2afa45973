select * exclude (filename, file_row_number)
from {{ current_parquet(source('factory', 'leaderboard'), {
    'rank': 'integer', 'experiment': 'varchar', 'scale': 'varchar', 'seeds': 'integer', 'metric': 'varchar',
    'value': 'double', 'seed_low': 'double', 'seed_high': 'double', 'item_low': 'double', 'item_high': 'double',
    'difference': 'double', 'difference_low': 'double', 'difference_high': 'double', 'verdict': 'varchar',
    'tokens': 'double', 'unique_tokens': 'double', 'documents_kept': 'double', 'flops': 'double',
    'arm': 'varchar', 'control': 'varchar', 'p': 'double', 'seeds_needed': 'integer', 'parameters': 'double',
    'parameters_total': 'double', 'flops_6nd': 'double', 'epochs': 'double', 'dirty_items': 'double'}) }}
