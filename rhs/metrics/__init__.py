"""From embeddings to neighbors and retrieval metrics."""
