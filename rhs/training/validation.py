"""Embedding a split during training, the work shared among all ranks."""

import numpy as np
import torch

from rhs.data.feature_cache import Features
from rhs.data.loader import Images, evaluation_batches
from rhs.distributed import collectives
from rhs.models.embedder import Embedder, Head

FEATURES_AT_ONCE = 4096


def embed(
    model: Embedder | Head, images: Images, device: torch.device, threads: int = 1
) -> np.ndarray:
    """Normalized float32 embeddings [N, D] of a split, the work shared among all ranks.

    Args:
        model: an Embedder, or the Head of one for `Features`.
    """
    model.eval()
    share = -(-len(images) // collectives.world_size())
    start = share * collectives.rank()
    # Every rank embeds as many; the surplus at the very end is cut off after the gather.
    rows = [min(row, len(images) - 1) for row in range(start, start + share)]
    if isinstance(model, Head):
        assert isinstance(images, Features)
        batches = images.batches(rows, FEATURES_AT_ONCE)
    else:
        batch_size = 256 if device.type == "cuda" else 32  # small ones stay in a processor's cache
        batches = evaluation_batches(images, rows, model.image_size, batch_size, threads)
    x_bD = torch.cat([model.embed(batch.to(device)) for batch in batches])
    return collectives.gather(x_bD)[: len(images)].cpu().numpy()
