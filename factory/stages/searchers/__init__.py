"""How a mixture is searched with proxies."""
