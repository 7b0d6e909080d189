"""Images: built-in data with known relations, sources, shards, and the loader that batches them."""
