"""From a trained model to scores: embedding whole splits, and measuring retrieval on them."""
