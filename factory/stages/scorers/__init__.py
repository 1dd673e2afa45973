"""Numbers and labels beside documents; null where unknown, never a made-up zero."""
