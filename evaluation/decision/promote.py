"""Make the candidate with the GO the champion, or say why not.

    python -m evaluation promote --store-uri URI --run-id ID

Reads: decision.json, the candidate's manifest, the champion log.
Writes: one record of the champion log (create-only) if the verdict is GO and `promotion.enabled`; promotion.json either way.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from evaluation.results.decided import Decision, Promotion, PromotionOutcome, read_decision, read_promotion
from voc.errors import IntegrityError, ObjectExistsError, PromotionError
from voc.models.folder import digest_model
from voc.run import Run, open_run
from voc.store.champion import ChampionRecord, append_champion, read_record

PROMOTION_FORMAT = "nightforge/promotion/1"


def run_promote(arguments: argparse.Namespace) -> None:
    """Open the run, promote, and print what was done."""
    promotion = promote(open_run(arguments.store_uri, arguments.run_id))
    print(f"promote: {promotion['outcome']}: {promotion['reason']}", flush=True)


def promote(run: Run) -> Promotion:
    """Append the champion record that the decision asks for; a retry finds its own record and writes no second one.

    Raises:
        PromotionError: If there is no decision, or another run was promoted since the decision was made.
        IntegrityError: If the model is not the one that was measured.
    """
    decision = read_decision(run)
    if decision is None:
        raise PromotionError(f"{run.layout.decision} does not exist", remedy="run decide first")
    earlier = read_promotion(run)
    if earlier is not None and earlier["outcome"] == "promoted" and earlier["inputs_hash"] == decision["inputs_hash"]:
        return earlier
    if decision["promoted"] is None:
        return _write(run, decision, "skipped", f"the verdict is {decision['verdict']}")
    if not run.config.promotion.enabled:
        return _write(run, decision, "skipped", "promotion.enabled is false")
    with run.timed("promote"):
        number, record = _append(run, decision)
        reason = f"{record.candidate} is champion number {number}"
        return _write(run, decision, "promoted", reason, champion=(number, record.model_uri))


def _append(run: Run, decision: Decision) -> tuple[int, ChampionRecord]:
    candidate = next(c for c in decision["candidates"] if c["name"] == decision["promoted"])
    digest = digest_model(candidate["uri"])
    if digest != candidate["digest"]:
        raise IntegrityError(
            f"the model {candidate['uri']} has the digest {digest}",
            expected=f"{candidate['digest']}, the model that was measured",
            remedy="evaluate the model again",
        )
    record = ChampionRecord(
        model_uri=candidate["uri"],
        model_digest=candidate["digest"],
        run_id=run.layout.run_id,
        candidate=candidate["name"],
        reason=candidate["reasons"][0],
        promoted_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    after = decision["champion_number"]
    try:
        return append_champion(run.store, record, after=after), record
    except ObjectExistsError:
        winner = read_record(run.store, after + 1)
    if (winner.run_id, winner.model_digest) == (record.run_id, record.model_digest):
        return after + 1, winner  # an earlier try wrote it and was ended before it could say so
    reason = f"{winner.candidate} of run {winner.run_id} became champion number {after + 1} on {winner.promoted_at}"
    _write(run, decision, "lost", reason, champion=(after + 1, winner.model_uri))
    raise PromotionError(
        f"another promotion was first: {reason}",
        expected=f"champion number {after}, which this run's candidate was compared with, to be the last",
        remedy="start a new run, which compares with the new champion",
    )


def _write(
    run: Run,
    decision: Decision,
    outcome: PromotionOutcome,
    reason: str,
    champion: tuple[int, str] | None = None,
) -> Promotion:
    promotion: Promotion = {
        "format": PROMOTION_FORMAT,
        "outcome": outcome,
        "reason": reason,
        "candidate": decision["promoted"],
        "inputs_hash": decision["inputs_hash"],
    }
    if champion is not None:
        promotion["champion_number"], promotion["model_uri"] = champion
    run.store.write_bytes(run.layout.promotion, json.dumps(promotion, indent=1, ensure_ascii=False).encode())
    return promotion
