"""What two sides' measures of the same requests say: rates, ratios, differences; and as a table."""

import statistics
from typing import Any, NamedTuple

from workload import Workload

COLUMNS = (
    "model",
    "device",
    "dtype",
    "task",
    "requests",
    "stock batch",
    "stock req/s",
    "slim req/s",
    "ratio",
    "stock peak MB",
    "slim peak MB",
    "largest difference",
)


class Measure(NamedTuple):
    """One side's answers to all requests, and what they took."""

    answers: list[Any]
    seconds: float
    peak_mb: float | None
    about: dict[str, Any]  # what SlimLM says of itself


def compare(
    workload: Workload, stock: list[Measure], slim: list[Measure], tokens: int
) -> dict[str, Any]:
    """Rates, ratios and differences of measures that were taken in pairs."""
    pairs = [a.seconds / b.seconds for a, b in zip(stock, slim, strict=True)]
    sides = {"stock": side(workload, stock, tokens), "slim": side(workload, slim, tokens)}
    flops = slim[0].about.get("flops")
    rate = flops and flops / sides["slim"]["median_seconds"]
    sides["slim"] |= slim[0].about | {"flops_per_second": rate}
    ratio = sides["stock"]["median_seconds"] / sides["slim"]["median_seconds"]
    found = {"requests": len(workload.requests), "tokens": tokens, **sides}
    found |= {"ratio": ratio, "ratio_range": [min(pairs), max(pairs)]}
    return found | differences(workload, stock[0].answers, *(m.answers for m in slim))


def side(workload: Workload, measures: list[Measure], tokens: int) -> dict[str, Any]:
    """One side's rates, memory and scores."""
    seconds = statistics.median(m.seconds for m in measures)
    peaks = [m.peak_mb for m in measures if m.peak_mb is not None]
    return {
        "seconds": [m.seconds for m in measures],
        "median_seconds": seconds,
        "requests_per_second": len(workload.requests) / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_mb": max(peaks, default=None),
        "scores": workload.scores(measures[0].answers),
    }


def differences(workload: Workload, first: list[Any], *others: list[Any]) -> dict[str, Any]:
    """The most by which any of the others' answers differ from the first's."""
    if workload.generates:
        differing = (sum(a != b for a, b in zip(first, x, strict=True)) for x in others)
        return {"differing_strings": max(differing, default=0)}
    pairs = [pair for x in others for pair in zip(first, x, strict=True)]
    return {
        "largest_difference": max((abs(a[0] - b[0]) for a, b in pairs), default=0.0),
        "differing_is_greedy": sum(a[1] != b[1] for a, b in pairs) / max(1, len(pairs)),
    }


# ----------------------------------------------------------------------------------------- output


def number(value: float | None, form: str = ".2f") -> str:
    """A number for a table; "-" for one that is not known."""
    return "-" if value is None else format(value, form)


def difference(found: dict[str, Any]) -> str:
    """What `differences` found, in a word."""
    if "differing_strings" in found:
        return f"{found['differing_strings']} strings"
    return f"{found['largest_difference']:.1e}"


def row(head: list[str], found: dict[str, Any]) -> list[str]:
    """One line of the table; the head is model, device and dtype."""
    stock, slim = found["stock"], found["slim"]
    return [
        *head,
        found["task"],
        str(found["requests"]),
        str(found["stock_batch"]),
        number(stock["requests_per_second"]),
        number(slim["requests_per_second"]),
        number(found["ratio"]),
        number(stock["peak_mb"], ".0f"),
        number(slim["peak_mb"], ".0f"),
        difference(found),
    ]


def table(rows: list[list[str]], markdown: bool = False) -> str:
    """The rows under COLUMNS, as README.md has it or with aligned columns."""
    lines = [list(COLUMNS), *rows]
    if markdown:
        lines.insert(1, ["---"] * len(COLUMNS))
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([x.ljust(w) for x, w in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)


def details(found: dict[str, Any]) -> str:
    """What the table has no room for."""
    stock, slim = found["stock"], found["slim"]
    low, high = found["ratio_range"]
    lines = [
        f"{found['task']}: ratio {found['ratio']:.2f}, in pairs {low:.2f} to {high:.2f}; tokens/s "
        f"{stock['tokens_per_second']:.0f} and {slim['tokens_per_second']:.0f}",
        f"difference {difference(found)}; between stock's own batch sizes "
        f"{difference(found['between_batch_sizes'])} of {found['sweep_requests']}",
    ]
    if slim.get("stock_reason"):
        lines.append(f"SlimLM left all to HFLM: {slim['stock_reason']}")
    else:
        lines.append(
            f"{found['tokens']} tokens asked, {slim['tokens']} computed, {slim['positions']} "
            f"positions scored: {slim['flops_per_second'] / 1e9:.1f} GFLOP/s without attention"
        )
    if made := found["generated_tokens"]:
        lines.append(
            f"generated {min(made)} to {max(made)} tokens, mean {statistics.mean(made):.1f}"
        )
    else:
        lines.append(f"is_greedy differs in {found['differing_is_greedy']:.2%}")
    for name, score in stock["scores"].items():
        lines.append(f"{name}: {score:.4f} and {slim['scores'][name]:.4f}")
    return "\n  ".join(lines)
