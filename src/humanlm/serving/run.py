"""Running the endpoint until somebody stops it."""

import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from humanlm.errors import UsageError
from humanlm.llm import loop
from humanlm.serving.guard import Guard
from humanlm.serving.metrics import JsonLines, log

_PATIENCE_S = 30


def serve(
    guard: Guard,
    host: str,
    port: int,
    *,
    ready: Callable[[str], None] = lambda url: None,
    graceful_s: int = _PATIENCE_S,
) -> None:
    """Serves until SIGTERM or Ctrl-C: then no new requests are taken, and those under way are finished. A second one ends it.

    The server runs on the process's own event loop for model calls, so that a request and the calls it makes are one task.

    Args:
        guard: The application.
        host: The address to listen on.
        port: 0 for any that is free.
        ready: Is told the server's URL once it listens.
        graceful_s: Seconds that requests under way get to finish.

    Raises:
        UsageError: The address cannot be used.
    """
    config = uvicorn.Config(
        guard,
        host=host,
        port=port,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        timeout_graceful_shutdown=graceful_s,
    )
    server = uvicorn.Server(config)
    sockets = [_bind(host, port)]

    def stop(number: int, frame: FrameType | None) -> None:
        server.force_exit = guard.stopping
        server.should_exit = guard.stopping = True

    before = {kind: signal.signal(kind, stop) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        running = loop.submit(server.serve(sockets=sockets))
        while not (server.started or running.done()):
            time.sleep(0.02)
        if server.started:
            where = sockets[0].getsockname()
            name = f"[{where[0]}]" if ":" in where[0] else where[0]
            log("listening", host=where[0], port=where[1])
            ready(f"http://{name}:{where[1]}")
        running.result()
        log("stopped")
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def set_up_logging() -> None:
    """Sends one JSON object a line to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("humanlm", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    logging.getLogger("humanlm").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def _bind(host: str, port: int) -> socket.socket:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(kind, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"{host}:{port} cannot be used ({error.strerror or error}): choose another --host or --port"
        ) from error
    listener.setblocking(False)
    return listener
