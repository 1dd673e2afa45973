"""The dbt models as a code location of their own: dbt's imports, and its seconds, stay out of the other."""
