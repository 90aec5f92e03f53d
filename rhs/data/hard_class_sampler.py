"""Batches of classes that the model confuses (SCHEM)."""

import numpy as np

from rhs.data.batch_sampler import BalancedBatchSampler, BatchIndices
from rhs.errors import UserError, check_number

COMPOSE, ANCHORS = 2, 3  # keep these random streams apart from the others
DIGITS = 4  # of similarities: rounding, which world sizes differ in, should not order samples


class HardClassBatchSampler(BalancedBatchSampler):
    """Each batch: `per_class` images of an anchor class, and samples hard for them.

    With K classes, eta images a class, and S the cosine similarity to the most similar of the
    anchor class's images: P_c is the alpha (K - 1) other classes whose signatures have the largest
    S, P_s the beta (K - 1) eta images of these classes with the largest S, and (K - 1) eta of P_s
    are drawn at random. With alpha = beta = 1 nothing is left to chance but the anchors. A batch
    has K eta images, of up to alpha (K - 1) + 1 classes; a class may be there with one image, which
    then is only a negative.

    Composed anew before each epoch, from the embeddings of all training images and the signatures
    as they are then. The anchor classes go round: none comes again before all others have.

    Args:
        labels: as for BalancedBatchSampler.
        classes: K.
        per_class: eta, images of each class.
        seed: as for BalancedBatchSampler.
        alpha: how much larger the pool of classes is than what is taken from it.
        beta: the same of the pool of images.

    Source: Suh et al., Stochastic Class-Based Hard Example Mining, CVPR 2019. The full text was not
    at hand: composing by epoch, and drawing from P_s uniformly, are inferred.
    """

    adaptive = True

    def __init__(
        self,
        labels: np.ndarray,
        classes: int,
        per_class: int,
        seed: int,
        alpha: float = 2.0,
        beta: float = 2.0,
    ):
        super().__init__(labels, classes, per_class, seed)
        for name, value in (("alpha", alpha), ("beta", beta)):
            check_number(f"method.batches.{name}", value, least=1)
        self.alpha, self.beta = alpha, beta
        self._composed: dict[int, np.ndarray] = {}

    @property
    def left_out(self) -> int:
        """0: which images an epoch holds is not planned but found, see `plan_epoch`."""
        return 0

    def plan_epoch(self, epoch: int, x_ND: np.ndarray, signatures_CD: np.ndarray) -> np.ndarray:
        """The images of the epoch's batches [steps, B].

        Args:
            x_ND: unit embeddings of all training images.
            signatures_CD: unit signatures of all classes, by label.
        """
        return np.stack(
            [self._compose_batch(epoch, step, x_ND, signatures_CD) for step in range(self.steps)]
        )

    def set_batches(self, epoch: int, image: np.ndarray) -> str:
        """Take these batches for the epoch, and say in words which images they hold."""
        self.set_epoch(epoch)
        self._composed = {epoch: image}
        distinct = len(np.unique(self._composed[epoch]))
        return f"epoch {epoch + 1} holds {distinct} of {len(self.labels)} images, the hardest"

    def epoch_indices(self, epoch: int) -> np.ndarray:
        """The images of the batches [steps, B] of an epoch that has been composed."""
        return self._composed[epoch]

    def batch(self, epoch: int, step: int) -> BatchIndices:
        """Batch `step` of an epoch that has been composed."""
        if epoch not in self._composed:
            raise UserError(
                f"The batches of epoch {epoch} have not been composed: call plan_epoch with the "
                "embeddings of the training set, and set_batches, before each epoch."
            )
        image = self._composed[epoch]
        # How often an image came before in the epoch, so that its augmentation differs.
        here, before = image[step], np.isin(image[:step], image[step])
        drawn = dict.fromkeys(here.tolist(), 0)
        for row in image[:step][before].tolist():
            drawn[row] += 1
        draw = np.empty_like(here)
        for place, row in enumerate(here.tolist()):
            draw[place], drawn[row] = drawn[row], drawn[row] + 1
        return BatchIndices(here, draw)

    def _compose_batch(
        self, epoch: int, step: int, x_ND: np.ndarray, signatures_CD: np.ndarray
    ) -> np.ndarray:
        random = np.random.default_rng([self.seed, epoch, step, COMPOSE])
        rows = self._members[self._anchor_class(epoch * self.steps + step)]
        own = self.labels[rows[0]]
        anchors = np.resize(random.permutation(rows), self.per_class)
        if len(rows) >= self.per_class:
            anchors = random.choice(rows, self.per_class, replace=False)
        hard_classes = self.hard_classes(own, x_ND[anchors], signatures_CD)
        pool = self.hard_samples(hard_classes, x_ND[anchors], x_ND)
        wanted = (self.classes - 1) * self.per_class
        # In the images' order: which of two that are as hard comes first, rounding decides.
        chosen = random.choice(np.sort(pool), min(wanted, len(pool)), replace=False)
        return np.concatenate([anchors, np.resize(chosen, wanted)])

    def hard_classes(
        self, own: int, anchors_eD: np.ndarray, signatures_CD: np.ndarray
    ) -> np.ndarray:
        """P_c: labels of the classes most similar to any of the anchors."""
        similarity_C = _most_similar(anchors_eD, signatures_CD)
        usable_K = np.array([self.labels[rows[0]] for rows in self._members])
        others = usable_K[usable_K != own]
        count = int(self.alpha * (self.classes - 1))
        return others[np.argsort(-similarity_C[others], kind="stable")[:count]]

    def hard_samples(
        self, hard_classes: np.ndarray, anchors_eD: np.ndarray, x_ND: np.ndarray
    ) -> np.ndarray:
        """P_s: the images of these classes most similar to any of the anchors."""
        candidates = np.flatnonzero(np.isin(self.labels, hard_classes))
        similarity = _most_similar(anchors_eD, x_ND[candidates])
        count = int(self.beta * (self.classes - 1) * self.per_class)
        return candidates[np.argsort(-similarity, kind="stable")[:count]]

    def _anchor_class(self, position: int) -> int:
        turn, place = divmod(position, len(self._members))
        order = np.random.default_rng([self.seed, turn, ANCHORS]).permutation(len(self._members))
        return int(order[place])


def _most_similar(anchors_eD: np.ndarray, x_ND: np.ndarray) -> np.ndarray:
    """Each point's similarity [N] to the anchor it is most similar to."""
    return np.round((x_ND @ anchors_eD.T).max(1).astype(np.float64), DIGITS)
