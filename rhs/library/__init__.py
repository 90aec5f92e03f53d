"""Losses for a training loop of one's own; `import rhs` offers what is public."""
