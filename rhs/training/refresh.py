"""The pass over the whole training set that some methods ask for between epochs."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from rhs.data.loader import TrainLoader
from rhs.distributed import collectives


def refresh_statistics(
    model: nn.Module,
    objective: nn.Module,
    loader: TrainLoader,
    epoch: int,
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """Embed the whole training set where the method asks for it before this epoch.

    In evaluation mode, without augmentation, each rank its share; for class statistics, and for
    plans that compose their batches from what the model confuses.
    """
    adaptive = loader.plan.adaptive is True
    if not (adaptive or objective.needs_refresh(epoch)):  # type: ignore[operator]
        return
    embedder = getattr(model, "module", model)
    embedder.eval()

    def samples() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        with torch.no_grad():
            for images, labels in loader.evaluation_views():
                x_bD = embedder(images.to(device))
                exact = torch.promote_types(x_bD.dtype, torch.float32)
                yield x_bD.to(exact), labels.to(device)

    if not adaptive:
        objective.refresh(epoch, samples())  # type: ignore[operator]
        return
    seen = list(samples())
    objective.refresh(epoch, seen)  # type: ignore[operator]
    signatures_CD = objective.signatures.all()  # type: ignore[union-attr, operator]
    dim = signatures_CD.shape[1]
    own = torch.cat([torch.empty(0, dim, device=device), *(x.float() for x, _ in seen)])
    x_ND = nn.functional.normalize(collectives.gather(own, collectives.row_counts(own)))
    plan = loader.plan
    image = plan.plan_epoch(epoch, x_ND.cpu().numpy(), signatures_CD.cpu().numpy())  # type: ignore
    # The first rank's: processors may differ in the last digit, and batches must not.
    image = collectives.broadcast_from_first(torch.from_numpy(image), device).numpy()
    say(plan.set_batches(epoch, image))  # type: ignore[attr-defined]
