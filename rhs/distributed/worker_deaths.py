"""How processes of Ray's die, and what to do about it, in words."""

MEMORY = "Ray ended it, as its node's memory was full"
NODE = "its node was lost"
KILLED = "killed, by the system where memory was short, or crashed"
# What needs less memory, by what dies; each within a sentence.
SMALLER = (
    "smaller batches (train.classes, train.per_class), smaller images (model.image_size) or "
    "cluster.input=shards"
)
TRAINING = f"fewer workers on a node (cluster.num_workers), {SMALLER}"
AT_ONCE = f"fewer at once (more for each in cluster.resources_per_worker), {SMALLER}"
EMBEDDING = "a smaller evaluate.batch_size or fewer workers (cluster.num_workers)"
GALLERY = "a smaller evaluate.memory_mib, more nodes or more cluster.gallery_shards"
PREPARING = "fewer processes (cluster.num_cpus) or a smaller preprocess.max_pixels"


def death(error: BaseException) -> str | None:
    """How a process of Ray's was lost, by what it raises elsewhere; None for another error."""
    from ray import exceptions

    # A worker that cannot even be made would not be the next time.
    if getattr(error, "actor_init_failed", False):
        return None
    lost = (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.ObjectLostError)
    if isinstance(error, exceptions.OutOfMemoryError):
        return MEMORY
    if isinstance(error, (exceptions.NodeDiedError, exceptions.LocalRayletDiedError)):
        return NODE
    if not isinstance(error, lost):
        return None
    return MEMORY if _is_of_memory(str(error)) else KILLED


def describe_death(error: BaseException, less: str = "") -> str:
    """`death`, with what needs less memory where that may have been short; or what it says."""
    how = death(error)
    if how is None:
        return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"{how}; less memory is needed with {less}" if less and how != NODE else how


def _is_of_memory(said: str) -> bool:
    """As Ray's memory monitor puts it, in the message of an actor that it ended."""
    return "NODE_OUT_OF_MEMORY" in said or "running low on memory" in said
