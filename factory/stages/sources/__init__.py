"""Where rows come from: files in, raw batches out. The only stages that create rows."""
