{#- What is current of a recipe: the pointers that moved only after their gates passed. -#}

{% macro store() -%}
  {{ return(env_var('FACTORY_STORE', '.factory').rstrip('/')) }}
{%- endmacro %}

{% macro pointers(kind) -%}
  {{ return(store() ~ '/current/' ~ env_var('FACTORY_NAME', 'recipe') ~ '/' ~ kind ~ '/**/*.json') }}
{%- endmacro %}

{% macro pointer_columns() -%}
  {kind: 'VARCHAR', label: 'VARCHAR', partition: 'VARCHAR', manifest: 'VARCHAR', digest: 'VARCHAR', files: 'VARCHAR[]'}
{%- endmacro %}

{#- The pointers of one kind of dataset as a relation; empty where there are none. -#}
{% macro current_pointers(relation) -%}
  {%- set pattern = pointers(relation.identifier) -%}
  {%- set found = execute and run_query("select count(*) as files from glob('" ~ pattern ~ "')").rows[0][0] > 0 -%}
  {%- if found -%}
    (select * from read_json('{{ pattern }}', columns = {{ pointer_columns() }}))
  {%- else -%}
    (select null::varchar as kind, null::varchar as label, null::varchar as partition, null::varchar as manifest,
            null::varchar as digest, null::varchar[] as files where false)
  {%- endif -%}
{%- endmacro %}

{#- The Parquet files of one kind of dataset, each once, with `filename` and `file_row_number`. `columns` are there in any
    case: null where a file has none of that name, as linkers of different joins write different ones. -#}
{% macro current_parquet(relation, columns) -%}
  {%- set files = [] -%}
  {%- if execute -%}
    {%- set query -%}
      select distinct file
      from (select unnest(files) as file from {{ current_pointers(relation) }})
      where file like '%.parquet' order by file
    {%- endset -%}
    {%- for row in run_query(query).rows -%}{%- do files.append(store() ~ '/' ~ row[0]) -%}{%- endfor -%}
  {%- endif -%}
  (select {% for name, type in columns.items() %}null::{{ type }} as "{{ name }}", {% endfor -%}
          null::varchar as filename, null::bigint as file_row_number where false
  {%- if files %}
   union all by name
   select * from
    read_parquet(['{{ files | join("', '") }}'], filename = true, file_row_number = true, union_by_name = true)
  {%- endif -%}
  )
{%- endmacro %}

{#- Which experiment or linker, and which snapshot, each file belongs to. Two experiments with equal rules share files. -#}
{% macro current_owners(relation) -%}
  (select label, partition, '{{ store() }}/' || unnest(files) as filename from {{ current_pointers(relation) }})
{%- endmacro %}
