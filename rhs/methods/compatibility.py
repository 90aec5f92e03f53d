"""Which parts of a method go together; what does not is refused with a sentence."""

from typing import Any, Protocol

from rhs.errors import UserError, check_number
from rhs.methods.centers import SignatureCenters
from rhs.methods.generators.combined import CombinedGenerators
from rhs.methods.interfaces import (
    Centers,
    ContinuousLoss,
    Generator,
    LabelLoss,
    Loss,
    Miner,
    Refreshed,
    Signatures,
    SimilarityLoss,
)
from rhs.methods.mining.batch import BatchMiner
from rhs.methods.mining.pair_points import ORIGINAL
from rhs.methods.mining.pairs import PairMiner
from rhs.methods.similarity import check_measure

KINDS = {"mining": Miner, "generator": Generator, "centers": Centers, "signatures": Signatures}


class Method(Protocol):
    """What is looked at: the parts and settings of an rhs.methods.objective.Objective."""

    loss: Any
    mining: Any
    measure: str
    generator: Any
    centers: Any
    signatures: Any
    signature_weight: float
    normalize: bool
    original_weight: float
    l2: float
    tile: int | None


def check_members(key: str, part: Any, kind: type) -> None:
    """Raises UserError where a part lacks a member of its Protocol."""
    for base in reversed(kind.__mro__[:-1]):
        names = [*vars(base).get("__annotations__", {}), *vars(base)]
        for name in names:
            if not name.startswith("_") and not hasattr(part, name):
                raise UserError(
                    f"method.{key} is {type(part).__name__}, which has no member {name!r}: inherit "
                    f"rhs.methods.interfaces.{kind.__name__}, or give it one."
                )
    if not callable(part) and kind is not Refreshed:
        raise UserError(f"method.{key} is {type(part).__name__}, which cannot be called.")


def check_parts(method: Method) -> None:
    """Raises UserError if a part lacks what the objective asks of it."""
    check_members("loss", method.loss, Loss)
    of_labels = ContinuousLoss if method.loss.continuous else LabelLoss
    check_members("loss", method.loss, of_labels if method.loss.takes_labels else SimilarityLoss)
    for key, kind in KINDS.items():
        if getattr(method, key) is not None:
            check_members(key, getattr(method, key), kind)
    for key in ("loss", "generator", "centers", "signatures"):
        part = getattr(method, key)
        if part is not None and part.wants_refresh:
            check_members(key, part, Refreshed)


def check_combination(method: Method) -> None:
    """Raises UserError if the parts of a method do not go together."""
    check_parts(method)
    check_measure(method.measure)
    check_number("method.original_weight", method.original_weight, least=0, most=1)
    check_number("method.l2", method.l2, least=0)
    if method.tile is not None:
        check_number("method.tile", method.tile, least=1, whole=True)
    check_number("method.signature_weight", method.signature_weight, least=0)
    if not isinstance(method.normalize, bool):
        raise UserError(f"method.normalize is {method.normalize!r}; it must be true or false.")
    if method.generator is None:
        for name in ("centers", "original_weight"):
            if getattr(method, name):
                raise UserError(
                    f"method.{name} is for a generator's points, but method.generator is null: "
                    f"leave method.{name} out."
                )
    if isinstance(method.centers, SignatureCenters) and method.signatures is None:
        raise UserError(
            "method.centers is SignatureCenters, but method.signatures is null: choose "
            "rhs.methods.losses.normalized_softmax.NormalizedSoftmax for it."
        )
    if method.loss.takes_labels:
        _check_loss_of_labels(method)
    else:
        _check_loss_of_rows(method)
        if method.generator is not None:
            _check_generator(method)
        elif method.mining.uses_generator:
            raise UserError(
                "method.generator is null, but method.mining compares with synthetic points: "
                "choose one, for instance rhs.methods.generators.symmetric.Symmetric."
            )


def _check_loss_of_labels(method: Method) -> None:
    loss = type(method.loss).__name__
    for name in ("mining", "generator"):  # centers without a generator are refused before
        if getattr(method, name) is not None:
            raise UserError(
                f"The loss {loss} takes embeddings and labels, not pairs that were chosen: set "
                f"method.{name}=null."
            )


def _check_loss_of_rows(method: Method) -> None:
    loss, mining = method.loss, method.mining
    name = type(loss).__name__
    if mining is None:
        raise UserError(
            f"method.mining is null, but the loss {name} compares positives with negatives: choose "
            "rhs.methods.mining.batch.BatchMiner or rhs.methods.mining.pairs.PairMiner."
        )
    if method.measure not in loss.measures:
        raise UserError(
            f"method.measure is {method.measure!r}; the loss {name} takes "
            f"{' or '.join(loss.measures)}."
        )
    if loss.both_ends and not mining.both_ends:
        raise UserError(
            f"The loss {name} compares the sum of a pair's two ends with negatives: set "
            "method.mining to rhs.methods.mining.pairs.PairMiner with both_ends=true."
        )
    if mining.both_ends and not loss.both_ends:
        raise UserError(f"method.mining.both_ends is for the angular loss, not for {name}.")
    if loss.needs_partner and mining.per_positive:
        raise UserError(
            f"method.mining.negatives is {mining.negatives!r}, which takes a negative for each "
            f"positive, but the loss {name} takes all negatives of both ends of a pair: choose "
            "all, easy or hardest, or loss.form=generalized."
        )
    if mining.needs_unit_length and not method.normalize:
        raise UserError(
            "mining.negatives is 'distance_weighted', which is about distances on the unit sphere: "
            "set method.normalize=true or choose other negatives."
        )


def _check_generator(method: Method) -> None:
    generator, mining = method.generator, method.mining
    name = type(generator).__name__
    if generator.for_classes and method.loss.needs_partner:
        raise UserError(
            f"{name} makes positives that have no negatives of their own, but the loss "
            f"{type(method.loss).__name__} takes those of both ends of a pair: set "
            "loss.form=generalized."
        )
    if generator.needs_unit_length and not method.normalize:
        raise UserError(
            "method.generator.surface is 'renormalized', which puts points on the unit sphere, but "
            "method.normalize is false: choose euclidean."
        )
    if method.centers is not None and not generator.needs_centers:
        raise UserError(f"{name} takes no class centers: set method.centers=null.")
    if generator.needs_centers and method.centers is None:
        raise UserError(
            f"method.centers is null, but {name} rotates about class centers: choose some, for "
            "instance rhs.methods.centers.EMACenters."
        )
    if isinstance(mining, PairMiner):
        if generator.for_classes:
            raise UserError(
                f"{name} makes points for a whole class, not for pairs: set method.mining to "
                "rhs.methods.mining.batch.BatchMiner."
            )
        if not mining.uses_generator:
            raise UserError(
                f"method.generator is {name}, but method.mining compares with nothing synthetic: "
                "set mining.positives=hardest, or name synthetic roles in mining.negatives."
            )
    if isinstance(generator, CombinedGenerators):
        _check_both_used(mining)


def _check_both_used(mining: PairMiner | BatchMiner) -> None:
    if isinstance(mining, BatchMiner):
        used, advice = mining.synthetic_negatives, "mining.synthetic_negatives=true"
    else:
        replaced = mining.positives in ("hardest", "synthetic")
        used = replaced and not mining.used <= set(ORIGINAL)
        advice = "mining.positives=hardest, and name synthetic roles in mining.negatives"
    if not used:
        raise UserError(
            "CombinedGenerators makes points for positives and others for negatives, but "
            f"method.mining compares with one kind alone: set {advice}."
        )
