"""An OpenAI-compatible server whose answers a test decides; it checks the key and counts what it was asked."""

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

KEY = "a-key-that-no-log-may-show"


@dataclass
class StandIn:
    """What the server knows and was asked.

    Attributes:
        answer: From the last user turn to the text of the answer.
        failures: Responses (status, headers) given first, one per request, before real answers. In place of a status:
            None closes the connection, `half_body` ends in the middle, `not_json` is a whole answer of half the JSON.
        score: From a prompt's token ids and a token id to its log-probability.
        knows_choice_scoring: Whether `logprob_token_ids` is a field of the server; None: it is ignored.
        top_tokens: From a prompt's token ids to the tokens that are among its most likely ones.
        token_names: From a token id to how the server names it.
        too_long: From a chat request to whether it does not fit.
        too_long_message: What is said of one that does not.
        leaves_little_room: From a chat request to whether its answer is shortened to one token.
        refuse_after: Requests that are answered before every further one gets a 404.
    """

    model: str = "base"
    max_model_len: int = 512
    answer: object = staticmethod(lambda text: f"echo: {text}")
    failures: list = field(default_factory=list)
    score: object = staticmethod(lambda prompt, token: -float((sum(prompt) * 31 + token * 7) % 97) / 10)
    knows_choice_scoring: bool | None = True
    top_tokens: object = staticmethod(lambda prompt: [])
    token_names: object = staticmethod(lambda token: f"token_id:{token}")
    too_long: object = staticmethod(lambda body: False)
    leaves_little_room: object = staticmethod(lambda body: False)
    too_long_message: str = "This model's maximum context length is 512 tokens."
    delay_s: float = 0.0
    refuse_after: int | None = None
    requests: list = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    in_flight_of_first: int = 0
    url: str = ""
    port: int = 0

    @contextmanager
    def serving(self, port=0):
        loop = asyncio.new_event_loop()
        runner = web.AppRunner(self._app())
        started = threading.Event()

        async def start():
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            self.port = runner.addresses[0][1]
            self.url = f"http://127.0.0.1:{self.port}/v1"

        def run():
            asyncio.set_event_loop(loop)
            loop.run_until_complete(start())
            started.set()
            loop.run_forever()
            loop.run_until_complete(runner.cleanup())
            loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        started.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)

    def _app(self):
        app = web.Application(middlewares=[self._guard], client_max_size=1 << 26)
        app.router.add_get("/health", lambda _: web.Response())
        app.router.add_get("/version", lambda _: web.json_response({"version": "0.0.stand-in"}))
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        return app

    @web.middleware
    async def _guard(self, request, handler):
        if request.path.startswith("/v1") and request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        if request.method == "GET":
            return await handler(request)
        if self.failures:
            status, headers = self.failures.pop(0)
            if status == "half_body":
                return await self._half_body(request)
            if status == "not_json":
                return web.Response(text='{"model": "base", "choices": [{"mess', content_type="application/json")
            if status is None:
                request.transport.close()
            return web.json_response({"error": "scripted"}, status=status or 500, headers=headers)
        if self.refuse_after is not None and len(self.requests) >= self.refuse_after:
            return web.json_response({"error": "scripted"}, status=404)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay_s)
            self.in_flight_of_first = self.in_flight_of_first or self.in_flight
            return await handler(request)
        finally:
            self.in_flight -= 1

    async def _half_body(self, request):
        """Promise more than is sent."""
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"model": "base", "choi')
        request.transport.close()
        return response

    async def _models(self, _):
        return web.json_response({"data": [{"id": self.model, "max_model_len": self.max_model_len}]})

    async def _chat(self, request):
        body = await request.json()
        self.requests.append(body)
        if self.too_long(body) and "truncate_prompt_tokens" not in body:
            message = self.too_long_message
            return web.json_response({"error": {"message": message}}, status=400)
        text = self.answer(body["messages"][-1]["content"])
        finish_reason = "stop"
        if self.leaves_little_room(body) and "truncate_prompt_tokens" not in body:
            text, finish_reason = text.split()[0], "length"
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        usage = {"prompt_tokens": 7, "completion_tokens": len(text.split())}
        return web.json_response({"model": self.model, "choices": [choice], "usage": usage})

    async def _completions(self, request):
        body = await request.json()
        self.requests.append(body)
        if "logprob_token_ids" in body and self.knows_choice_scoring is False:
            return web.json_response({"error": "Unrecognized request argument: logprob_token_ids"}, status=400)
        make = self._echo if body.get("echo") else self._score_choices
        choices = [{"index": i, "logprobs": make(prompt, body)} for i, prompt in enumerate(body["prompt"])]
        return web.json_response({"model": self.model, "choices": choices[::-1], "usage": {}})

    def _score_choices(self, prompt, body):
        asked = body.get("logprob_token_ids") if self.knows_choice_scoring else None
        tokens = self.top_tokens(prompt)[: body["logprobs"]] if asked is None else asked
        found = {self.token_names(i): self.score(prompt, i) for i in tokens}
        return {"tokens": [max(found, key=found.get, default="")], "top_logprobs": [found]}

    def _echo(self, prompt, body):
        values = [None, *(self.score(prompt[:i], prompt[i]) for i in range(1, len(prompt))), -1.0]
        tops = [None if value is None else {"x": 0.0} for value in values]
        return {"token_logprobs": values, "top_logprobs": tops}
