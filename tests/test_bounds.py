"""What a hostile server sends is bounded in bytes and time, and steers no terminal."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from miyabi_cli.errors import BrokenReply, ProviderRefused, ProviderUnreachable
from miyabi_cli.llm.bodies import MAX_ANSWER_BYTES
from miyabi_cli.llm.harmony.collecting import HarmonyCollector
from miyabi_cli.llm.native.models import list_models
from miyabi_cli.llm.openai import ChatCompletions, open_openai
from miyabi_cli.llm.profiles import profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.server import MAX_REFUSAL_BYTES, Server
from miyabi_cli.llm.sse import read_events
from miyabi_cli.messages import Message, Reply, Timing
from tests.support.server import chat_server, chunk, say, send_error, send_event, start_events

ONCE = Retries(attempts=1)
HELLO = [Message("user", "hello")]


def ask(url: str) -> Reply:
    async def main() -> Any:
        async with open_openai(url, "gpt-oss-20b", retries=ONCE) as provider:
            return [piece async for piece in provider.chat(HELLO)][-1]

    reply: Reply = asyncio.run(main())
    return reply


def without_end(status: int, block: bytes) -> Any:
    """A turn that sends a block again and again until the client goes away."""

    def turn(handler: Any, _: Any) -> None:
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(block)

    return turn


def test_a_refusal_without_an_end_is_read_as_far_as_it_matters() -> None:
    with chat_server(without_end(400, b"no " * 100_000)) as server, pytest.raises(ProviderRefused) as caught:
        ask(server.url)
    assert caught.value.status == 400
    assert len(caught.value.message) < 400
    assert MAX_REFUSAL_BYTES < MAX_ANSWER_BYTES


def test_a_list_of_models_without_an_end_is_a_typed_error() -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Flood(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            without_end(200, b"[" * 1_000_000)(self, None)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Flood)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with pytest.raises(BrokenReply, match="does not end"):
            asyncio.run(list_models(f"http://127.0.0.1:{server.server_address[1]}"))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [200, 400])
def test_what_is_compressed_twice_is_not_unpacked(status: int) -> None:
    packed = gzip.compress(gzip.compress(b" " * 1_000_000))
    turn = send_error(status, packed, {"content-encoding": "gzip, gzip"})
    with chat_server(turn) as server, pytest.raises(BrokenReply, match="compressed more than once"):
        ask(server.url)


def test_a_stream_that_is_compressed_once_is_read() -> None:
    events = [chunk({"delta": {"content": "hi"}}), chunk({"delta": {}, "finish_reason": "stop"})]
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    turn = send_error(200, zlib.compress(body), {"content-encoding": "deflate"}, kind="text/event-stream")
    with chat_server(turn) as server:
        assert ask(server.url).text == "hi"


def test_comments_keep_a_stream_alive_but_not_for_ever() -> None:
    async def comments() -> AsyncIterator[bytes]:
        while True:
            yield b": still there\n\n"

    async def main() -> None:
        async for _ in read_events(comments(), patience=0.0):
            pass

    with pytest.raises(ValueError, match="without an event"):
        asyncio.run(main())


def test_empty_pieces_do_not_count_as_a_reply() -> None:
    def empty(handler: Any, _: Any) -> None:
        start_events(handler)
        with contextlib.suppress(OSError):
            while True:
                send_event(handler, chunk({"index": 0, "delta": {}, "finish_reason": None}))

    async def main(url: str) -> None:
        server = replace(Server.at("openai", url), patience=0.0)
        wire = ChatCompletions(server, "gpt-oss-20b", profile_of("gpt-oss-20b"))
        async with Provider(wire, retries=ONCE) as provider:
            async for _ in provider.chat(HELLO):
                pass

    with chat_server(empty) as server, pytest.raises(BrokenReply, match="nothing but empty pieces"):
        asyncio.run(main(server.url))


def test_a_server_s_words_steer_no_terminal() -> None:
    said = "\x1b]0;title\x07\x1b[31mred\r\nnext\x9b31m\u202eturned\ud800"
    with chat_server(send_error(400, {"error": {"message": said}})) as server, pytest.raises(ProviderRefused) as caught:
        ask(server.url)
    assert caught.value.message.isprintable()
    assert "red next" in caught.value.message


def test_an_error_whose_fields_are_of_other_kinds_is_a_refusal() -> None:
    error = {"error": {"message": {"a": [1]}, "code": {"b": 1}, "type": [1], "param": 5}}
    with chat_server(send_error(400, error), say("unused")) as server, pytest.raises(ProviderRefused):
        ask(server.url)


def test_a_wrong_count_loses_no_reply_in_harmony() -> None:
    collector = HarmonyCollector()
    collector.add({"choices": [{"text": "<|channel|>final<|message|>hi", "finish_reason": "stop"}]})
    collector.add({"choices": [], "usage": {"prompt_tokens": 10**400, "completion_tokens": -1}})
    reply = collector.reply(Timing())
    assert (reply.text, reply.usage.input_tokens, reply.usage.output_tokens) == ("hi", 0, 0)


def test_https_at_a_plain_server_says_what_is_wrong() -> None:
    with chat_server(say("unused")) as server, pytest.raises(ProviderUnreachable) as caught:
        ask(server.url.replace("http:", "https:"))
    assert "http://" in str(caught.value.hint)
