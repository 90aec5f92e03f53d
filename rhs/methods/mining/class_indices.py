"""Which samples of a batch share a class: as disjoint pairs, or each with all others."""

import torch


def pair_up(labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair the samples of each class, in batch order: first with second, third with fourth, …

    The last sample of a class of odd size is paired with the one before it, so that none is left
    out; a sample alone in its class has no pair.

    Returns:
        (anchor [N], positive [N]): rows of the batch.
    """
    order_B, start_B, size_B = _by_class(labels_B)
    place_B = torch.arange(len(labels_B), device=labels_B.device)
    even_B = (place_B - start_B) % 2 == 0
    last_B = place_B == start_B + size_B - 1
    whole_B = even_B & ~last_B
    odd_B = even_B & last_B & (size_B > 1)
    anchor_N = torch.cat([place_B[whole_B], place_B[odd_B]])
    positive_N = torch.cat([place_B[whole_B] + 1, place_B[odd_B] - 1])
    return order_B[anchor_N], order_B[positive_N]


def same_class(labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The other samples of each sample's class.

    Returns:
        (row of the batch [B, P], whether it is one [B, P]); P is the size of the largest class
        less one, at least 1.
    """
    order_B, start_B, size_B = _by_class(labels_B)
    widest = max(1, int(size_B.max()) - 1) if len(labels_B) else 1
    place_B = torch.arange(len(labels_B), device=labels_B.device)
    step_P = torch.arange(widest, device=labels_B.device)
    turned_BP = (place_B - start_B)[:, None] + 1 + step_P
    others_BP = order_B[start_B[:, None] + turned_BP % size_B[:, None]]
    index_BP, valid_BP = torch.empty_like(others_BP), torch.empty_like(others_BP, dtype=torch.bool)
    index_BP[order_B] = others_BP
    valid_BP[order_B] = step_P < (size_B - 1)[:, None]
    return index_BP, valid_BP


def _by_class(labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rows sorted by class [B]; and at each place of that order, where its class starts and how
    large it is."""
    order_B = torch.argsort(labels_B, stable=True)
    _, class_B, count_K = torch.unique(labels_B, return_inverse=True, return_counts=True)
    start_K = torch.cumsum(count_K, 0) - count_K
    class_B = class_B[order_B]
    return order_B, start_K[class_B], count_K[class_B]


def members(labels_M: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of M points belong to the class of each of B samples.

    Returns:
        (index of the point [B, Q], whether it is one [B, Q]); Q is the most that any sample has, at
        least 1.
    """
    order_M = torch.argsort(labels_M, stable=True)
    sorted_M = labels_M[order_M]
    start_B = torch.searchsorted(sorted_M, labels_B)
    count_B = torch.searchsorted(sorted_M, labels_B, right=True) - start_B
    place_Q = torch.arange(max(1, int(count_B.max())), device=labels_B.device)
    valid_BQ = place_Q < count_B[:, None]
    return order_M[(start_B[:, None] + place_Q).clamp_max(len(labels_M) - 1)], valid_BQ
