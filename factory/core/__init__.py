"""The vocabulary: values, laws and names. Pure, and imports nothing of ours."""
