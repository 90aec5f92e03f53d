"""The cost model against what was measured: constants from one half, errors on the other.

    python -m benchmarks.cost_check

Reads what benchmarks.traffic, benchmarks.growth and benchmarks.scaling have left in
benchmarks/results. Fitted on: collectives at the smaller batch; the loss at every other batch; the
plan at every other number of classes; steps at the smaller batch.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from benchmarks import cost
from benchmarks.support.cost_model import (
    Link,
    Loss,
    Machine,
    all_gather_bytes,
    all_gather_seconds,
    all_reduce_bytes,
    all_reduce_seconds,
    loss_seconds,
    step,
    survey_bytes,
)

WORKERS = 2
Row = tuple[str, float, float]  # what, predicted, measured: seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = arguments.parse_args()
    traffic, growth, scaling = (
        json.loads((options.results / f"{name}.json").read_text())
        for name in ("scaling_traffic", "scaling_growth", "scaling")
    )
    text = report(traffic, growth, scaling)
    (options.results / "scaling_check.md").write_text(text)
    print(text)


def fit(columns: Sequence[Sequence[float]], seconds: Sequence[float]) -> np.ndarray:
    """Coefficients, none negative, of the least squares of relative errors."""
    table, measured = np.array(columns, float), np.array(seconds, float)
    size = table.max(0) / measured.max() + 1e-300  # columns of like size
    found, _ = nnls(table / size / measured[:, None], np.ones(len(measured)))
    return found / size


def messages(calls: list[dict]) -> tuple[int, float, Callable[[Link], float]]:
    """Messages and bytes that a rank sends for some collectives, and their seconds on a link."""
    count, sent = 0, 0.0
    terms: list[tuple[Callable[[float, int, Link], float], float]] = []
    for call in calls:
        size = int(np.prod(call["shape"])) * np.dtype(call["dtype"]).itemsize
        if call["kind"] == "all_gather":
            count, sent = count + 1, sent + all_gather_bytes(WORKERS * size, WORKERS)
            terms.append((all_gather_seconds, WORKERS * size))
        else:
            count, sent = count + 2, sent + all_reduce_bytes(size, WORKERS)
            terms.append((all_reduce_seconds, size))
    return count, sent, lambda link: sum(f(size, WORKERS, link) for f, size in terms)


def fit_link(traffic: dict) -> tuple[Link, list[Row]]:
    """The link, from the smaller batch of the smaller model; the rest is predicted."""
    smallest = min(row["batch"] for row in traffic["rows"])
    known: dict[int, tuple] = {}
    for row in traffic["rows"]:
        own = row["model"] == traffic["rows"][0]["model"] and row["batch"] == smallest
        for group in ("gather", "gradient"):
            part = traffic["parts"][row[group]]
            if calls := part["calls"]:
                name = f"{group}, {row['model']}, B = {row['batch']}, D = {row['dim']}"
                known.setdefault(row[group], (name, own, part["seconds"], *messages(calls)))
    used = [(count, sent, seconds) for _, own, seconds, count, sent, _ in known.values() if own]
    latency, each = fit([row[:2] for row in used], [row[2] for row in used])
    link = Link(float(latency), 1 / max(float(each), 1e-15))
    return link, [(k[0], k[5](link), k[2]) for k in known.values() if not k[1]]


def fit_loss(name: str, growth: dict) -> tuple[Loss, float, list[Row]]:
    """The loss and its fixed seconds, from every other batch; the rest is predicted."""
    seen = {int(batch): seconds for batch, seconds in growth["losses"][name].items()}
    dim, rates, known = growth["dim"], growth["rates"], cost.LOSSES[name]
    used = sorted(seen)[::2]
    products = [known.products * b**2 * dim / rates["flops"] for b in used]
    columns = [[1.0, 4 * b * dim, 4 * b * b] for b in used]
    # What the products take is known; at least a tenth is left for the rest.
    left = [max(0.1 * seen[b], seen[b] - p) for b, p in zip(used, products, strict=True)]
    fixed, rows, passes = fit(columns, left)
    width = rates["memory_bandwidth"]
    loss = replace(known, rows=float(rows * width), passes=float(passes * width))
    here = machine(growth, Link(1.0, 1.0), loss=float(fixed))
    told = [
        (f"loss, {name}, B = {b}", loss_seconds(loss, b, dim, here), seen[b])
        for b in sorted(seen)[1::2]
    ]
    return loss, float(fixed), told


def fit_plan(growth: dict, part: str) -> tuple[np.ndarray, list[Row]]:
    """Seconds for a class and for a pair of classes, from every other count."""
    seen = {int(count): told[part] for count, told in growth["plans"].items()}
    used = sorted(seen)[::2]
    each = fit([[c, c * c] for c in used], [seen[c] for c in used])
    rows = [
        (f"plan, {part}, C = {c:,}", float(each @ [c, c * c]), seen[c]) for c in sorted(seen)[1::2]
    ]
    return each, rows


def machine(growth: dict, link: Link, **known: float) -> Machine:
    """This machine, of what is known of it."""
    nothing = dict.fromkeys(("image", "loss", "memory", "parameter", "overlap"), 0.0)
    return Machine(link=link, copy=1.0, write=1.0, **(nothing | growth["rates"] | known))


def check_steps(scaling: dict, growth: dict, link: Link, parameters: int, dim: int) -> list[Row]:
    """Steps of one core and of two workers; the model, optimizer and what two workers cost each
    other from the smaller batch."""
    first, *rest = scaling["runs"]
    one, two = scaling["runs"][first]["one core"], scaling["runs"][first]["two workers"]
    loss, fixed, _ = fit_loss(scaling["method"], growth)
    forth_and_back = one["model forward"] + one["model backward"]
    here = machine(
        growth,
        link,
        loss=fixed,
        image=forth_and_back / int(first),
        parameter=one["optimizer"] / parameters,
    )
    other = one["input"] + one["rest"]
    beside = 2 * (two["model forward"] + two["model backward"]) / forth_and_back
    slower = replace(here, image=here.image * beside)
    rows = []
    for batch in rest:
        seen = scaling["runs"][batch]
        shared = other * int(batch) / int(first)
        for name, kind, workers in (("one core", here, 1), ("two workers", slower, 2)):
            parts = step(kind, loss, workers, int(batch), dim, parameters)
            predicted = sum(parts.values()) + shared / workers
            rows.append((f"step, {name}, B = {batch}", predicted, sum(seen[name].values())))
    return rows


def report(traffic: dict, growth: dict, scaling: dict) -> str:
    """Constants, and predictions beside measurements, as Markdown."""
    link, rows = fit_link(traffic)
    constants = [f"- link: {1e6 * link.latency:.0f} us a message, {link.bandwidth / 1e9:.2f} GB/s"]
    for name in growth["losses"]:
        loss, fixed, more = fit_loss(name, growth)
        rows += more
        constants.append(
            f"- loss `{name}`: {1e3 * fixed:.1f} ms, {loss.rows:.0f} passes over the "
            f"embeddings, {loss.passes:.0f} over a B x B matrix"
        )
    for part in ("open", "epoch"):
        each, more = fit_plan(growth, part)
        rows += more
        whole = float(each @ [1e7, 1e14]) / 3600
        constants.append(
            f"- plan, {part}: {each[0]:.1e} s a class, {each[1]:.1e} s for the square "
            f"of classes: {whole:,.0f} hours with 10 million"
        )
    for kind, seen in growth["surveys"].items():
        copy = 8 * (growth["dim"] + 1)  # which one process does not make
        told = survey_bytes(kind, 1, growth["dim"]) - copy
        constants.append(
            f"- survey, {kind}: {seen:.1f} bytes for each number of the table on one "
            f"process; {told / growth['dim']:.1f} by the formula"
        )
    whole = next(r for r in traffic["rows"] if (r["model"], r["dim"]) == (scaling["model"], 128))
    parameters = traffic["parts"][whole["gradient"]]["bytes"] // 4
    rows += check_steps(scaling, growth, link, parameters, 128)
    errors = [abs(predicted / measured - 1) for _, predicted, measured in rows]
    lines = [
        "# The cost model against measurements\n",
        f"`python -m benchmarks.cost_check`, {date.today()}, from measurements of "
        f"{traffic['machine']}, {traffic['date']}. Median error {statistics.median(errors):.0%}, "
        f"largest {max(errors):.0%}.\n",
        "Fitted on the one half:\n",
        *constants,
        "\nPredicted for the other, in milliseconds:\n",
        "| | predicted | measured | error |",
        "|---|---|---|---|",
    ]
    for name, predicted, measured in rows:
        cells = f"{1e3 * predicted:,.2f} | {1e3 * measured:,.2f} | {predicted / measured - 1:+.0%}"
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
