"""Deep metric learning: losses, samplers and retrieval metrics for any training loop; and, with
`rhs-dml[pipeline]`, workflows that train, evaluate and compare them on many machines.

Nothing is imported before it is used: `import rhs` alone takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what editors and type checkers see
    from rhs.data.batch_sampler import BalancedBatchSampler as BalancedBatchSampler
    from rhs.data.hard_class_sampler import HardClassBatchSampler as HardClassBatchSampler
    from rhs.errors import UserError as UserError
    from rhs.library.create_loss import create_loss as create_loss
    from rhs.library.metric_loss import MetricLoss as MetricLoss
    from rhs.library.registry import list_losses as list_losses
    from rhs.methods.centers import BatchCenters as BatchCenters
    from rhs.methods.centers import EMACenters as EMACenters
    from rhs.methods.centers import EpochCenters as EpochCenters
    from rhs.methods.centers import LeaveOneOutCenters as LeaveOneOutCenters
    from rhs.methods.centers import SignatureCenters as SignatureCenters
    from rhs.methods.centers import SubCenters as SubCenters
    from rhs.methods.generators.combined import CombinedGenerators as CombinedGenerators
    from rhs.methods.generators.intra_class import IntraClass as IntraClass
    from rhs.methods.generators.rotation import Rotation as Rotation
    from rhs.methods.generators.symmetric import Symmetric as Symmetric
    from rhs.methods.losses.angular import Angular as Angular
    from rhs.methods.losses.contrastive import Contrastive as Contrastive
    from rhs.methods.losses.lifted import Lifted as Lifted
    from rhs.methods.losses.log_ratio import LogRatio as LogRatio
    from rhs.methods.losses.margin import Margin as Margin
    from rhs.methods.losses.multi_similarity import MultiSimilarity as MultiSimilarity
    from rhs.methods.losses.normalized_softmax import NormalizedSoftmax as NormalizedSoftmax
    from rhs.methods.losses.npair import NPair as NPair
    from rhs.methods.losses.triplet import Triplet as Triplet
    from rhs.methods.mining.batch import BatchMiner as BatchMiner
    from rhs.methods.mining.pairs import PairMiner as PairMiner
    from rhs.methods.objective import Objective as Objective
    from rhs.methods.pml import PMLLoss as PMLLoss
    from rhs.metrics.retrieval import Scores as Scores
    from rhs.metrics.retrieval import score as retrieval_scores  # noqa: F401

_MODULES = {
    "rhs.data.batch_sampler": ["BalancedBatchSampler"],
    "rhs.data.hard_class_sampler": ["HardClassBatchSampler"],
    "rhs.errors": ["UserError"],
    "rhs.library.create_loss": ["create_loss"],
    "rhs.library.registry": ["list_losses"],
    "rhs.library.metric_loss": ["MetricLoss"],
    "rhs.methods.centers": [
        "BatchCenters",
        "EMACenters",
        "EpochCenters",
        "LeaveOneOutCenters",
        "SignatureCenters",
        "SubCenters",
    ],
    "rhs.methods.generators.combined": ["CombinedGenerators"],
    "rhs.methods.generators.intra_class": ["IntraClass"],
    "rhs.methods.generators.rotation": ["Rotation"],
    "rhs.methods.generators.symmetric": ["Symmetric"],
    "rhs.methods.losses.angular": ["Angular"],
    "rhs.methods.losses.contrastive": ["Contrastive"],
    "rhs.methods.losses.lifted": ["Lifted"],
    "rhs.methods.losses.log_ratio": ["LogRatio"],
    "rhs.methods.losses.margin": ["Margin"],
    "rhs.methods.losses.multi_similarity": ["MultiSimilarity"],
    "rhs.methods.losses.normalized_softmax": ["NormalizedSoftmax"],
    "rhs.methods.losses.npair": ["NPair"],
    "rhs.methods.losses.triplet": ["Triplet"],
    "rhs.methods.mining.batch": ["BatchMiner"],
    "rhs.methods.mining.pairs": ["PairMiner"],
    "rhs.methods.objective": ["Objective"],
    "rhs.methods.pml": ["PMLLoss"],
    "rhs.metrics.retrieval": ["Scores", "score"],
}
_PUBLIC_NAME = {"score": "retrieval_scores"}  # of what is too short a name outside of its module
_HOME = {
    _PUBLIC_NAME.get(name, name): (module, name)
    for module, names in _MODULES.items()
    for name in names
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rhs' has no attribute {name!r}")
    module, own_name = _HOME[name]
    found = getattr(import_module(module), own_name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
