"""The process that started a run: it hears its workers, and signals reach them."""

import os
import signal
import threading
import time

import pytest

from rhs.distributed import supervisor as supervise_module
from rhs.distributed.mailbox import Mailbox
from rhs.distributed.supervisor import (
    deferred_signals,
    poll_stop,
    supervise,
    worker_deaths_as_user_errors,
)
from rhs.errors import Interrupted, UserError


@pytest.fixture
def mailbox():
    return Mailbox()  # in Ray: tests/test_killed_ray.py


def test_messages_are_delivered_in_order_also_the_last_ones(mailbox):
    heard = []

    def fit() -> None:
        for number in range(50):
            mailbox.put("line", number)
        mailbox.put("unknown", None)

    supervise(fit, mailbox, {"line": heard.append}, [], grace=1)
    assert heard == list(range(50))


def test_what_fit_raises_comes_after_what_was_said_before_it(mailbox):
    heard = []

    def fit() -> None:
        mailbox.put("line", "the reason")
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        supervise(fit, mailbox, {"line": heard.append}, [], grace=1)
    assert heard == ["the reason"]


def test_after_a_refusal_ranks_that_hang_are_not_waited_for(mailbox, monkeypatch):
    monkeypatch.setattr(supervise_module, "SHUTDOWN_SECONDS", 0.3)
    heard, over = [], threading.Event()

    def fit() -> None:
        mailbox.put("refusal", "no space")
        over.wait(10)

    start = time.monotonic()
    supervise(fit, mailbox, {"refusal": heard.append}, [], grace=1)
    over.set()
    assert heard == ["no space"]
    assert time.monotonic() - start < 5


def test_asked_to_end_the_first_rank_is_told_and_waited_for(mailbox):
    over = threading.Event()

    def fit() -> None:
        stopping = poll_stop(mailbox, every=0.05)
        mailbox.put("training", None)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.wait(10)
        mailbox.put("stopped", 17)
        over.wait(10)  # other ranks hang

    with (
        deferred_signals() as signals,
        pytest.raises(Interrupted, match="after step 17; the same") as told,
    ):
        supervise(fit, mailbox, {}, signals, grace=10)
    over.set()
    assert told.value.signum == signal.SIGTERM


@pytest.mark.parametrize(
    ("training", "said"), [(True, r"no checkpoint within 0\.5 s"), (False, "stopped; ")]
)
def test_asked_to_end_and_no_answer(mailbox, training, said):
    over = threading.Event()

    def fit() -> None:
        if training:
            mailbox.put("training", None)
        os.kill(os.getpid(), signal.SIGINT)
        over.wait(10)

    start = time.monotonic()
    with deferred_signals() as signals, pytest.raises(Interrupted, match=said):
        supervise(fit, mailbox, {}, signals, grace=0.5)
    over.set()
    assert time.monotonic() - start < 5


def test_a_second_signal_ends_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with deferred_signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals == [signal.SIGTERM]
        with pytest.raises(Interrupted, match="twice"):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_workers_that_died_too_often_are_a_sentence():
    from ray.exceptions import RayActorError, RayTaskError
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    death = WorkerHealthCheckFailedError("Worker died", failure=RayActorError())
    lost = RuntimeError("Connection closed by peer")
    said = r"max_failures = 2 allows, the last time rank 1 \(killed, .*; less memory is needed with"
    with pytest.raises(UserError, match=said), worker_deaths_as_user_errors(2):
        raise WorkerGroupError("no", {0: lost, 1: death})
    with pytest.raises(WorkerGroupError), worker_deaths_as_user_errors(2):
        raise WorkerGroupError("no", {0: lost})
    said = r"leads the workers was lost \(killed.*continues from"
    with pytest.raises(UserError, match=said), worker_deaths_as_user_errors(2):
        raise RayActorError
    with pytest.raises(RayTaskError), worker_deaths_as_user_errors(2):
        raise RayTaskError("f", "a fault of ours", KeyError("x"))
