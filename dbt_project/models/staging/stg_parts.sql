-- Documents lie in files named by what they were made from; beside tables name the part by its digest. The manifests
-- know both.
{%- set relation = source('factory', 'documents') %}
{%- set manifests = [] %}
{%- if execute %}
  {%- for row in run_query("select distinct manifest from " ~ current_pointers(relation)).rows %}
    {%- do manifests.append(store() ~ '/' ~ row[0]) %}
  {%- endfor %}
{%- endif %}
{% if manifests %}
select
    partition as snapshot,
    part.digest as part,
    '{{ store() }}/' || part.path as filename,
    part.rows as documents
from (
    select partition, unnest(parts) as part
    from read_json(
        ['{{ manifests | join("', '") }}'],
        columns = {partition: 'VARCHAR', parts: 'STRUCT(digest VARCHAR, path VARCHAR, "rows" BIGINT)[]'},
        maximum_object_size = 268435456
    )
)
{% else %}
select null::varchar as snapshot, null::varchar as part, null::varchar as filename, null::bigint as documents where false
{% endif %}
