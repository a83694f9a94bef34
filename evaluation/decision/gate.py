"""GO, NO-GO or INCONCLUSIVE for one candidate, with the reasons.

Pure. Every check compares an interval with a threshold, so it has three outcomes: the whole interval is on the right side
(`pass`), the whole interval is on the wrong side (`fail`), or the threshold lies inside it (`open`). One `fail` is NO-GO;
else one `open` is INCONCLUSIVE; else GO.

A candidate has to pass every check, so more checks or more references make a false GO rarer and need no correction. Several
candidates do: each has its own chance of a false GO, so the confidence of every interval is raised (Bonferroni) until all of
them hold together with `decision.confidence`.

Source: Berger, 1982, Multiparameter Hypothesis Testing and Acceptance Sampling (intersection-union tests); Dunn, 1961.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

from evaluation.intervals import Interval, PairedDifference, wilson_interval
from evaluation.results.decided import CheckResult, Outcome, Verdict
from evaluation.suites.protocol import Gate, Rule, Value

OUTCOME_WORDS: dict[Outcome, str] = {
    "pass": "PASS: ",
    "fail": "FAIL: ",
    "open": "UNDECIDED: the interval contains the limit, ",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of a figure with its threshold.

    Attributes:
        name: What is checked, against which reference.
        outcome: Whether the interval is on the right side of the threshold, on the wrong one, or on both.
        binding: Whether the verdict depends on it; the others are shown for information.
        value: The figure seen.
        low: Lower end of its interval.
        high: Upper end.
        threshold: The limit; `rule` says on which side of it the interval must be.
        rule: `>` or `<=`.
        n: Items.
        detail: McNemar's exact p-value and the like.
    """

    name: str
    outcome: Outcome
    binding: bool
    value: float
    low: float
    high: float
    threshold: float
    rule: Rule
    n: int
    detail: str = ""

    @property
    def reason(self) -> str:
        """Return one line: the outcome, the figure with its interval, the limit, the number of items."""
        kind, sign = ("share", "") if self.rule == "<=" else ("change", "+")  # a change always shows its sign
        value, low, high = (format(figure, f"{sign}.3f") for figure in (self.value, self.low, self.high))
        seen = f"{kind} {value} [{low}, {high}], limit {format_limit(self.threshold, sign)}"
        detail = f", {self.detail}" if self.detail else ""
        return f"{self.name}: {OUTCOME_WORDS[self.outcome]}{seen} (n {self.n}{detail})"

    def to_json(self) -> CheckResult:
        """Return fields and reason."""
        return cast("CheckResult", {**asdict(self), "reason": self.reason})


def format_limit(limit: float, sign: str) -> str:
    """Return a limit with three decimals, and with more where somebody set more."""
    text = format(limit, f"{sign}.3f")
    return text if float(text) == limit else format(limit, f"{sign}g")


def judge(interval: Interval, threshold: float, rule: Rule) -> Outcome:
    """Compare an interval with a threshold."""
    if rule == "<=":
        return "pass" if interval.high <= threshold else "fail" if interval.low > threshold else "open"
    if rule == ">=":
        return "pass" if interval.low >= threshold else "fail" if interval.high < threshold else "open"
    return "pass" if interval.low > threshold else "fail" if interval.high <= threshold else "open"


def conclude(checks: Sequence[Check]) -> Verdict:
    """Turn the binding checks into a verdict."""
    outcomes = {check.outcome for check in checks if check.binding}
    return "NO-GO" if "fail" in outcomes else "INCONCLUSIVE" if "open" in outcomes else "GO"


def check_change(gate: Gate, reference: str, difference: PairedDifference, *, binding: bool) -> Check:
    """Hold a paired difference against a gate.

    Args:
        gate: The limit.
        reference: Whom the candidate is compared with.
        difference: Candidate minus reference, or the other way round where less is better.
        binding: Whether the verdict depends on it.
    """
    outcome = judge(Interval(difference.low, difference.high), gate.limit, gate.rule)
    detail = ""
    if difference.p_value is not None:
        detail = f"gained {difference.gained}, lost {difference.lost}, McNemar p {difference.p_value:.2g}"
    return Check(
        f"{gate.title} {reference}",
        outcome,
        binding,
        difference.value,
        difference.low,
        difference.high,
        gate.limit,
        gate.rule,
        difference.n,
        detail,
    )


def check_share(name: str, value: Value, limit: float, *, confidence: float) -> Check:
    """Hold a share (`count` of `n`) against the most that is allowed."""
    count = value.count if value.count is not None else round(value.value * value.n)
    interval = wilson_interval(count, value.n, confidence)
    outcome = judge(interval, limit, "<=")
    return Check(name, outcome, True, value.value, interval.low, interval.high, limit, "<=", value.n)
