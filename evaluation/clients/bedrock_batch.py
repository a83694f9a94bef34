"""The same client in batches: chats that are asked at one time go into one batch inference job, and come back one by one.

The suites start all of their chats together, so the chats that arrive until none has come for a second are a shard's whole work.
A job is named after its rows: a run that is killed finds the job it started and waits for it. Rows are joined on `recordId`,
because their order is not kept. A row that comes back with an error or not at all is asked again on its own, and so are all
rows where there are fewer than a batch takes (`min_rows`); both are counted in `retried`.

In the store: <batch.folder>/<digest of the rows>/ {input.jsonl, job.json, output/<job id>/...}.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference-data.html;
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateModelInvocationJob.html
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from evaluation.clients.bedrock import BedrockClient, build_request, read_answer, translate_errors
from evaluation.clients.interface import Chat, Completion
from evaluation.clients.retry import RetryPolicy
from evaluation.serving.endpoint import Endpoint
from voc.errors import EndpointError, ObjectNotFoundError
from voc.preflight.bedrock import make_client
from voc.store.base import Store
from voc.store.manifest import digest_json
from voc.store.uri import open_store

QUIET_S = 1.0
INPUT_NAME, JOB_NAME = "input.jsonl", "job.json"
_ENDED = frozenset({"Completed", "PartiallyCompleted"})
_FAILED = frozenset({"Failed", "Stopped", "Stopping", "Expired"})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: dict[str, Any]
    future: asyncio.Future[Completion]


class BedrockBatchClient(BedrockClient):
    """Answers chats like its base class, from batch inference jobs.

    Args:
        endpoint: As for the base class; its `batch` has role_arn, folder, url, min_rows, poll_s and timeout_s.
        concurrency: Rows in flight that are asked on their own.
        policy: When a request to the service is sent again.
        quiet_s: A job is made of the chats that arrived when none has come for this long.
    """

    def __init__(
        self, endpoint: Endpoint, *, concurrency: int, policy: RetryPolicy | None = None, quiet_s: float = QUIET_S
    ) -> None:
        super().__init__(endpoint, concurrency=concurrency, policy=policy)
        self._batch: dict[str, Any] = endpoint.batch or {}
        self._quiet_s = quiet_s
        self._waiting: list[_Waiting] = []
        self._timer: asyncio.TimerHandle | None = None
        self._jobs: set[asyncio.Task[None]] = set()

    async def _answer(self, chat: Chat) -> Completion:
        """Wait for the answer of the job that this chat becomes a row of."""
        request, loop = build_request(chat), asyncio.get_running_loop()
        waiting = _Waiting(request, loop.create_future())
        self._waiting.append(waiting)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(self._quiet_s, self._start)
        return await waiting.future

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []
        task = asyncio.get_running_loop().create_task(self._answer_together(waiting))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _answer_together(self, waiting: Sequence[_Waiting]) -> None:
        try:
            rows = name_rows(one.request for one in waiting)
            answers: dict[str, Completion] = {}
            if len(rows) >= self._batch["min_rows"]:
                answers = await self._run_job(rows)
                self._retrier.counts["batch_row"] += len(rows) - len(answers)
            else:
                print(f"bedrock: {len(rows)} rows are too few for a batch, they are asked one by one", flush=True)
            names = {digest_json(request): name for name, request in rows.items()}
            await asyncio.gather(
                *(self._hand_over(one, answers.get(names[digest_json(one.request)])) for one in waiting)
            )
        except BaseException as error:
            for one in waiting:
                if not one.future.done():
                    one.future.set_exception(error)
            if not isinstance(error, Exception):
                raise

    async def _hand_over(self, one: _Waiting, answer: Completion | None) -> None:
        """Give a chat its answer; ask for one that the job did not give."""
        if answer is None:
            try:
                answer = await self.ask(one.request)
            except EndpointError as error:  # of this row only, such as a prompt that is too long
                one.future.set_exception(error)
                return
        if not one.future.done():
            one.future.set_result(answer)

    async def _run_job(self, rows: Mapping[str, dict[str, Any]]) -> dict[str, Completion]:
        """Return the answers of one job by row name; rows with an error are missing."""
        store, folder = open_store(self._batch["folder"]), digest_json([self.endpoint.model, dict(rows)])
        control = make_client("bedrock", self.endpoint.region, self._batch.get("url"), read_timeout_s=60)
        arn = await self._find_or_create(control, store, folder, rows)
        deadline = time.monotonic() + self._batch["timeout_s"]
        while True:
            job = await self._call(lambda: control.get_model_invocation_job(jobIdentifier=arn))
            status, said = job["status"], job.get("message", "")
            if status in _ENDED:
                break
            if status in _FAILED:
                raise EndpointError(f"the batch job {arn} ended as {status}: {said}", remedy="see the job in Bedrock")
            if time.monotonic() >= deadline:
                raise EndpointError(
                    f"the batch job {arn} is {status} after {self._batch['timeout_s']} s",
                    remedy="run the task again, it goes on waiting for this job; or raise batch.timeout_s",
                )
            print(f"bedrock: batch job of {len(rows)} rows is {status}", flush=True)
            await asyncio.sleep(self._batch["poll_s"])
        output = f"{folder}/output/{arn.rpartition('/')[2]}"
        answers = read_output(store, output, rows.keys())
        print(f"bedrock: batch job {status}, {len(answers)} of {len(rows)} rows answered", flush=True)
        return answers

    async def _find_or_create(self, control: Any, store: Store, folder: str, rows: Mapping[str, dict[str, Any]]) -> str:
        """Return the job of just these rows: one that was started before and did not fail, else a new one."""
        try:
            arn = str(json.loads(store.read_bytes(f"{folder}/{JOB_NAME}"))["job_arn"])
            job = await self._call(lambda: control.get_model_invocation_job(jobIdentifier=arn))
            if job["status"] not in _FAILED:
                print(f"bedrock: going on with the batch job {arn}", flush=True)
                return arn
        except ObjectNotFoundError:
            pass
        lines = [json.dumps({"recordId": name, "modelInput": row}, ensure_ascii=False) for name, row in rows.items()]
        store.write_bytes(f"{folder}/{INPUT_NAME}", ("\n".join(lines) + "\n").encode())
        job = await self._call(
            lambda: control.create_model_invocation_job(
                jobName=f"nightforge-{folder[:32]}-{time.time_ns() // 1_000_000_000}",
                roleArn=self._batch["role_arn"],
                modelId=self.endpoint.model,
                modelInvocationType="Converse",
                inputDataConfig={"s3InputDataConfig": {"s3Uri": f"{store.uri}/{folder}/{INPUT_NAME}"}},
                outputDataConfig={"s3OutputDataConfig": {"s3Uri": f"{store.uri}/{folder}/output/"}},
            )
        )
        store.write_bytes(f"{folder}/{JOB_NAME}", json.dumps({"job_arn": job["jobArn"]}).encode())
        print(f"bedrock: started the batch job {job['jobArn']} of {len(rows)} rows", flush=True)
        return str(job["jobArn"])

    async def _call(self, request: Callable[[], T]) -> T:
        model, region = self.endpoint.model, self.endpoint.region

        def call() -> T:
            with translate_errors(model, region):
                return request()

        return await self._retrier.send(lambda: asyncio.to_thread(call), f"Bedrock's batch service for {model}")


def name_rows(requests: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the different requests by record id: 11 letters and digits, the same for the same set in any order."""
    by_digest = {digest_json(dict(request)): dict(request) for request in requests}
    return {f"r{number:010d}": by_digest[digest] for number, digest in enumerate(sorted(by_digest))}


def read_output(store: Store, folder: str, names: Iterable[str]) -> dict[str, Completion]:
    """Join a job's output files with the rows that were asked; rows with an error are left out.

    Raises:
        EndpointError: If a line cannot be read, or belongs to no row: then nothing can be trusted.
    """
    wanted, answers = set(names), {}
    for key in sorted(store.list_keys(folder)):
        if not key.endswith(".jsonl.out"):
            continue
        for number, raw in enumerate(store.read_bytes(key).splitlines(), start=1):
            try:
                row = json.loads(raw)
                name, output = row["recordId"], row.get("modelOutput")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise EndpointError(f"{store.uri}/{key}, line {number} is not an output row: {error!r}") from error
            if name not in wanted:
                raise EndpointError(f"{store.uri}/{key}, line {number} has the record id {name!r}, which was not asked")
            if output is not None and "error" not in row:
                answers[name] = read_answer(output)
    return answers
