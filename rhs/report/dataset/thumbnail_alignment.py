"""Whether two thumbnails show the same picture, cropped or resized a little differently.

Correlation alone does not tell: a copy that was cropped by 3 % is less like its original than two
letters that differ in an accent are like each other. So the two are first laid over each other, by
the small shift and zoom along each axis that fit best (Lucas and Kanade, "An iterative image
registration technique", IJCAI 1981). Of copies nearly nothing is left then; of pictures that are
merely similar, something stands out in one place. Both are asked for: a high correlation over the
whole, and no place that differs by much.
"""

from __future__ import annotations

import numpy as np

STEPS = 3
MOST = 2.0  # pixels of a thumbnail that its edge may be moved by


def normalized(gray_PHW: np.ndarray) -> np.ndarray:
    """Float32 [P, H, W] of mean 0 and length 1; all zero where an image has one gray value only.

    Brightness and contrast are gone, so that a copy that is lighter is still the same.
    """
    x_PHW = gray_PHW.astype(np.float32)
    x_PHW -= x_PHW.mean((1, 2), keepdims=True)
    length_P11 = np.sqrt((x_PHW**2).sum((1, 2), keepdims=True))
    x_PHW /= np.maximum(length_P11, 1e-9)
    return x_PHW


def compare(a_PHW: np.ndarray, b_PHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay each pair of square thumbnails over each other and compare them.

    Args:
        a_PHW, b_PHW: as `normalized` makes them.

    Returns:
        correlation [P]; and the largest difference in any one place [P], as a share of the range
        from the darkest to the lightest place.
    """
    side = a_PHW.shape[1]
    across = ((np.arange(side) - (side - 1) / 2) / (side / 2)).astype(np.float32)  # -1 to 1
    # Shift right, shift down, zoom in width, zoom in height: what the edge moves by, in pixels.
    moved_P4 = np.zeros((len(a_PHW), 4), dtype=np.float32)
    for _ in range(STEPS):
        a, b = _meet(a_PHW, b_PHW, moved_P4, across)
        down, right = np.gradient((a + b) / 2, axis=(1, 2))
        slopes_P4S = np.stack([right, down, across * right, across[:, None] * down], 1)
        slopes_P4S = slopes_P4S.reshape(-1, 4, side * side)
        normal_P44 = slopes_P4S @ slopes_P4S.transpose(0, 2, 1)
        # A stripe can slide along itself: the least motion that explains the difference.
        damping_P = 1e-3 * np.trace(normal_P44, axis1=1, axis2=2) / 4 + 1e-12
        normal_P44 += damping_P[:, None, None] * np.eye(4, dtype=np.float32)
        step_P41 = np.linalg.solve(normal_P44, slopes_P4S @ (b - a).reshape(-1, side * side, 1))
        moved_P4 = np.clip(moved_P4 + step_P41[:, :, 0], -MOST, MOST)
    a, b = _meet(a_PHW, b_PHW, moved_P4, across)
    range_P = (np.ptp(a, axis=(1, 2)) + np.ptp(b, axis=(1, 2))) / 2
    return (a * b).sum((1, 2)), np.abs(a - b).max((1, 2)) / np.maximum(range_P, 1e-9)


def _meet(
    a_PHW: np.ndarray, b_PHW: np.ndarray, moved_P4: np.ndarray, across: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each moved halfway toward the other, so that both are blurred alike."""
    half = moved_P4 / 2
    return _moved(a_PHW, half, across), _moved(b_PHW, -half, across)


def _moved(x_PHW: np.ndarray, moved_P4: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Linear interpolation, one axis after the other; the edge goes on outside."""
    place = np.arange(len(across), dtype=np.float32)

    def weights(shift_P: np.ndarray, zoom_P: np.ndarray) -> np.ndarray:
        source = np.clip(place + shift_P[:, None] + zoom_P[:, None] * across, 0, len(across) - 1)
        return np.maximum(0, 1 - np.abs(source[:, :, None] - place))

    rows_PHH = weights(moved_P4[:, 1], moved_P4[:, 3])
    columns_PWW = weights(moved_P4[:, 0], moved_P4[:, 2])
    return normalized(rows_PHH @ x_PHW @ columns_PWW.transpose(0, 2, 1))
