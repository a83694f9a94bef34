"""What the decision and the promotion leave: `decision.json` and `promotion.json`, and how they are read."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict

from evaluation.results.figures import Count, Hash, Ratio
from voc.errors import ObjectNotFoundError
from voc.run import Run

Outcome = Literal["pass", "fail", "open"]
Verdict = Literal["GO", "NO-GO", "INCONCLUSIVE"]
PromotionOutcome = Literal["promoted", "skipped", "lost"]


class CheckResult(TypedDict):
    """One figure against its limit."""

    name: Annotated[str, "what is checked, against which reference"]
    outcome: Annotated[Outcome, "the whole interval is on the right side of the limit, on the wrong one, or on both"]
    binding: Annotated[bool, "the verdict depends on it; the others are for information"]
    value: Annotated[float, "the figure seen: a change (-1 to 1) with `>` and `>=`, a share (0 to 1) with `<=`"]
    low: Annotated[float, "lower end of its interval"]
    high: Annotated[float, "upper end"]
    threshold: Annotated[float, "the limit, in the unit of the value"]
    rule: Annotated[Literal[">", ">=", "<="], "on which side of the limit the interval must be"]
    n: Annotated[Count, "items"]
    detail: Annotated[str, "gains, losses and McNemar's exact p-value; empty where there are none"]
    reason: Annotated[str, "all of it as a line"]


class JudgedModel(TypedDict):
    """A model that takes part in the decision."""

    name: Annotated[str, "as in models.json"]
    title: Annotated[str, "as tables call it"]
    uri: Annotated[str, "folder of the model that was measured"]
    digest: Annotated[Hash, "of that folder's manifest"]
    voc_f1: Annotated[Ratio, "VOC F1 of full paths in the average that decides"]


class Candidate(JudgedModel):
    """A model that may be promoted."""

    verdict: Annotated[Verdict, "GO if every binding check passes, NO-GO if one fails, else INCONCLUSIVE"]
    reasons: Annotated[list[str], "the reasons of the binding checks that made the verdict"]
    checks: Annotated[list[CheckResult], "all checks"]


class Decision(TypedDict):
    """`decision.json`."""

    format: Annotated[str, "version of this file"]
    verdict: Annotated[Verdict, "GO if one candidate has it, else INCONCLUSIVE if one has that, else NO-GO"]
    promoted: Annotated[
        str | None, "the candidate that is selected: of several GO that with the highest VOC F1; null without one"
    ]
    candidates: Annotated[list[Candidate], "in the order of models.json"]
    references: Annotated[list[JudgedModel], "what they were compared with"]
    thresholds: Annotated[dict[str, Any], "the section `decision` of the configuration"]
    confidence_per_interval: Annotated[Ratio, "two-sided, raised so that those of all candidates hold together"]
    multiplicity: Annotated[str, "how it was raised"]
    method: Annotated[str, "how the intervals were made"]
    champion_number: Annotated[int, "the last record of the champion log at that time; 0 without one"]
    inputs_hash: Annotated[Hash, "of everything that the decision depends on"]


class Promotion(TypedDict):
    """`promotion.json`."""

    format: Annotated[str, "version of this file"]
    outcome: Annotated[PromotionOutcome, "lost: another promotion was first"]
    reason: Annotated[str, "why, as a sentence"]
    candidate: Annotated[str | None, "the candidate that was selected"]
    inputs_hash: Annotated[Hash, "of the decision"]
    champion_number: Annotated[NotRequired[int], "number of the champion's record; of outcomes promoted and lost"]
    model_uri: Annotated[NotRequired[str], "folder of the champion; likewise"]


def read_decision(run: Run) -> Decision | None:
    """Return the run's decision, or None before there is one."""
    try:
        decision: Decision = json.loads(run.store.read_bytes(run.layout.decision))
    except ObjectNotFoundError:
        return None
    return decision


def read_promotion(run: Run) -> Promotion | None:
    """Return what the promote stage left, or None before it ran."""
    try:
        promotion: Promotion = json.loads(run.store.read_bytes(run.layout.promotion))
    except ObjectNotFoundError:
        return None
    return promotion
