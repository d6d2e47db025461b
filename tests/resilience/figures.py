"""The figures of storms: one row for each figure, one column for each storm."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.resilience.attempts import Attempt
from tests.resilience.checks.bills import doubled_jobs, hits
from tests.resilience.checks.images import orphans
from tests.resilience.gaps import latencies, silences, takeovers
from tests.resilience.orders import LOSING, script_of
from tests.resilience.runs import Run
from tests.resilience.scale import SEED, load_factor

Figures = Mapping[str, str]
_WRONG_CAPTION: Final = re.compile(r"out_\S+_0 (was captured|changed after its end)")


@dataclass(frozen=True, slots=True)
class Damage:
    """Violations, counted by what they cost."""

    double_bills: int
    wrong_charges: int
    doubled_outputs: int
    wrong_captions: int
    """How often a caption was not settled once, or changed after its end."""
    lost_acknowledged: int


def damage_of(run: Run) -> Damage:
    found = run.violations
    return Damage(
        double_bills=doubled_jobs(run.attempts, run.history.bill or []),
        wrong_charges=_count(found, "was captured", "charged for", "for nothing", "credits, "),
        doubled_outputs=_count(found, "but did not land", "land twice", "after its end"),
        wrong_captions=sum(bool(_WRONG_CAPTION.search(one)) for one in found),
        lost_acknowledged=_count(found, "was acknowledged"),
    )


def figures_of(run: Run) -> Figures:
    history, attempts, damage = run.history, run.attempts, damage_of(run)
    kinds = Counter(kill.kind for kill in history.kills)
    ends = Counter(attempt.ended_as for attempt in attempts)
    codes = Counter(attempt.code for attempt in attempts)
    taken_over = takeovers(attempts, history.kills)
    quiet = [one.after_kill for one in taken_over if one.quiet]
    waits = latencies(attempts)
    stops = [kill.ended_after for kill in history.kills if kill.stopped]
    answers = Counter(_kind_of_answer(one.acknowledged, one.failure) for one in history.asked)
    return {
        "seed": SEED,
        "kills": str(len(history.kills)),
        **{f"  of {kind}": str(kinds[kind]) for kind in ("worker", "api", "mongod", "nats", "fal")},
        "  by SIGTERM, worst end": f"{len(stops)}, {max(stops, default=0):.1f} s",
        "outputs running when a process was hurt": str(
            sum(_running_at(attempts, kill.at) for kill in history.kills)
        ),
        "requests": str(len(history.asked)),
        **{f"  {kind}": str(answers[kind]) for kind in ("acknowledged", "refused", "unanswered")},
        "keys tried": str(len({(one.viewer, one.key) for one in history.asked if one.key})),
        "jobs": str(len({attempt.output_id for attempt in attempts})),
        "  captions": str(len({one.output_id for one in attempts if one.is_caption})),
        "attempts": str(len(attempts)),
        **{f"  {end.lower()}": str(ends[end]) for end in _ENDS},
        "  timed out": str(codes["TIMED_OUT"]),
        "  unknown outcomes": str(codes["OUTCOME_UNKNOWN"]),
        "    that could be": f"{_could_be_unknown(run)}",
        "  gone on with by another": str(sum(_was_resumed(one) for one in attempts)),
        "vendor's jobs": str(len(history.bill or [])),
        "double bills": str(damage.double_bills),
        "wrong charges": str(damage.wrong_charges),
        "doubled outputs": str(damage.doubled_outputs),
        "wrong captions": str(damage.wrong_captions),
        "lost acknowledged": str(damage.lost_acknowledged),
        "stuck outputs": str(sum(attempt.ended_as is None for attempt in attempts)),
        "all violations": str(len(run.violations)),
        "snapshots": str(len(history.snapshots)),
        "takeovers, quiet ones": f"{len(taken_over)}, {len(quiet)}",
        "  quiet, median and worst": f"{_median(quiet):.1f} s, {max(quiet, default=0):.1f} s",
        "  worst since the last hurt": (
            f"{max((one.after_calm for one in taken_over), default=0):.1f} s"
        ),
        "queued to started, median": f"{_median(waits) * 1000:.0f} ms",
        "  99th percentile": f"{_late(waits) * 1000:.0f} ms",
        "attempts per second": f"{len(attempts) / run.seconds:.2f}",
        "settled after": f"{run.settled_seconds:.1f} s",
        "worst silence after mongod": (
            f"{max(silences(history.subscribers, history.kills), default=0):.2f} s"
        ),
        "orphaned objects": str(len(orphans(history.stored))),
        "most memory of a runner": f"{run.runner_memory_bytes / 2**20:.0f} MB",
        "processes for each processor": f"{load_factor():.1f}",
        "took": f"{run.seconds:.0f} s",
    }


def table(columns: Mapping[str, Figures]) -> str:
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    width = max(map(len, names))
    rows = [("", list(columns))]
    rows += [(name, [figures.get(name, "") for figures in columns.values()]) for name in names]
    return "\n".join(
        f"{name:<{width}}" + "".join(f"{value:>18}" for value in values) for name, values in rows
    )


_ENDS = ("COMPLETED", "FAILED", "CANCELLED", "DELETED")


def _could_be_unknown(run: Run) -> int:
    """Attempts that were killed, or cut off by the vendor, during their submission."""
    hurt = {id(attempt) for attempt in hits(run.attempts, run.history.kills)}
    cut = {id(attempt) for attempt in run.attempts if _was_cut(attempt)}
    return len(hurt | cut)


def _running_at(attempts: Sequence[Attempt], at: float) -> int:
    return sum(
        attempt.claims[0].at <= at and (attempt.ended_at is None or at < attempt.ended_at)
        for attempt in attempts
        if attempt.claims
    )


def _was_resumed(attempt: Attempt) -> bool:
    """Whether another process has brought the vendor's job to its end."""
    return bool(attempt.job_ids) and attempt.ended_as == "COMPLETED" and len(attempt.claims) > 1


def _was_cut(attempt: Attempt) -> bool:
    return bool(attempt.asking) and script_of(attempt.prompt) in LOSING


def _kind_of_answer(acknowledged: bool, failure: str) -> str:
    if acknowledged:
        return "acknowledged"
    return "unanswered" if failure else "refused"


def _count(found: Sequence[str], *words: str) -> int:
    return sum(any(word in one for word in words) for one in found)


def _median(values: Sequence[float]) -> float:
    return median(values) if values else 0.0


def _late(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))] if values else 0.0
