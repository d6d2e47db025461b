"""The figures of a storm, for people: one column for each run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.resilience.attempts import Attempt
from tests.resilience.checks.bills import doubled_jobs, hits
from tests.resilience.checks.images import orphans
from tests.resilience.evidence import Asked
from tests.resilience.gaps import latencies, silences, takeovers
from tests.resilience.history import objections
from tests.resilience.orders import LOSING, script_of
from tests.resilience.runs import Run
from tests.resilience.scale import SEED

Figures = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Damage:
    """What must not be, counted by what it costs."""

    double_bills: int
    wrong_charges: int
    doubled_outputs: int
    lost_acknowledged: int


def damage_of(run: Run) -> Damage:
    found = objections(run.history)
    return Damage(
        double_bills=doubled_jobs(run.attempts, run.history.bill or []),
        wrong_charges=_count(found, "was captured", "charged for", "for nothing", "credits, "),
        doubled_outputs=_count(found, "but did not land", "land twice", "after its end"),
        lost_acknowledged=_count(found, "was acknowledged"),
    )


def figures_of(run: Run) -> Figures:
    history, attempts = run.history, run.attempts
    kills, asked = history.kills, history.asked
    found = objections(history)
    damage = damage_of(run)
    taken_over = takeovers(attempts, kills)
    quiet = [one.after_kill for one in taken_over if one.quiet]
    ended = Counter(f"{attempt.ended_as} {attempt.code or ''}".strip() for attempt in attempts)
    waits = latencies(attempts)
    heard_again = silences(history.subscribers, kills)
    left = orphans(history.stored)
    stops = [kill for kill in kills if kill.stopped]
    unknown = sum(attempt.code == "OUTCOME_UNKNOWN" for attempt in attempts)
    return {
        "seed": SEED,
        "kills": f"{len(kills)}: {_counted([kill.kind for kill in kills])}",
        "of them asked to stop": f"{len(stops)}, worst end "
        f"{max((kill.ended_after for kill in stops), default=0):.1f} s",
        "outputs at work when hurt": str(sum(kill.unfinished for kill in kills)),
        "turns": str(len(history.chronicle.turns) if history.chronicle else 0),
        "attempts": str(len(attempts)),
        "ends": ", ".join(f"{count} {name}" for name, count in ended.most_common()),
        "vendor's jobs": str(len(history.bill or [])),
        "double bills": str(damage.double_bills),
        "wrong charges": str(damage.wrong_charges),
        "doubled outputs": str(damage.doubled_outputs),
        "stuck outputs": str(sum(attempt.ended_as is None for attempt in attempts)),
        "unknown outcomes": f"{unknown}; asked for when hurt {len(hits(attempts, kills))}, "
        f"cut by script {sum(_was_cut(attempt) for attempt in attempts)}",
        "snapshots": str(len(history.snapshots)),
        "keys tried": str(len({(one.viewer, one.key) for one in asked if one.key})),
        "requests": f"{len(asked)}: {_counted([_answer(one) for one in asked])}",
        "lost acknowledged": str(damage.lost_acknowledged),
        "takeovers": f"{len(taken_over)}, quiet {len(quiet)}",
        "takeover after a quiet death": _spread(quiet, "s"),
        "worst takeover after anything": (
            f"{max((one.after_calm for one in taken_over), default=0):.1f} s"
        ),
        "queued to started": _spread([wait * 1000 for wait in waits], "ms"),
        "outputs per second": f"{len(attempts) / run.seconds:.2f}",
        "settled after": f"{run.settled_seconds:.1f} s",
        "worst silence after mongod's return": f"{max(heard_again, default=0):.2f} s "
        f"of {len(heard_again)}",
        "orphaned": f"{len(left)} objects, {sum(left.values())} bytes",
        "most memory of one that runs": f"{run.worker_memory_bytes / 2**20:.0f} MB",
        "took": f"{run.seconds:.0f} s",
        "objections": str(len(found)),
    }


def table(title: str, figures: Figures) -> str:
    width = max(map(len, figures))
    rows = [f"  {name:<{width}}  {value}" for name, value in figures.items()]
    return "\n".join([title, *rows])


def _count(found: Sequence[str], *words: str) -> int:
    return sum(any(word in one for word in words) for one in found)


def _was_cut(attempt: Attempt) -> bool:
    return bool(attempt.asking) and script_of(attempt.prompt) in LOSING


def _answer(asked: Asked) -> str:
    if asked.acknowledged:
        return "acknowledged"
    return asked.failure or asked.refusals[0]


def _spread(values: Sequence[float], unit: str) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    late = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"median {median(ordered):.1f}, p99 {late:.1f}, worst {ordered[-1]:.1f} {unit}"


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common()) or "none"
