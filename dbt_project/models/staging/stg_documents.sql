select
    parts.part,
    documents.file_row_number as row_number,
    documents.doc_id,
    documents.url,
    documents.host,
    documents.date,
    documents.snapshot,
    documents.source,
    documents.license,
    documents.error
from {{ current_parquet(source('factory', 'documents'), {
    'doc_id': 'varchar', 'url': 'varchar', 'host': 'varchar', 'date': 'timestamptz', 'snapshot': 'varchar',
    'source': 'varchar', 'license': 'varchar', 'error': 'varchar'}) }} as documents
join {{ ref('stg_parts') }} as parts using (filename)
