"""From a recipe file to manifests: what is asked, what exists, what has to be made."""
