"""Using a trained model: an index of its embeddings, and searching in it."""
