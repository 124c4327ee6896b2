"""``tinyserver serve``: run the server until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import resource
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tinyserver.api.listeners import UNIX, HttpListener, ListenError
from tinyserver.api.oauth.locations import invitation_link
from tinyserver.cli import CommandError
from tinyserver.cli.config_file import config_file
from tinyserver.config import Config, Listener, load_config
from tinyserver.server import Server
from tinyserver.storage.errors import StorageError

logger = logging.getLogger("tinyserver")

_DRAIN_SECONDS = 10.0
_MAX_OPEN_FILES = 65536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")


def run(options: argparse.Namespace) -> int:
    """Serve; returns 0 after SIGTERM or SIGINT. Raises ConfigError, DataDirectoryError or CommandError."""
    file = config_file(options.config)
    config = load_config(file)
    set_up_log(config)
    _raise_file_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config, file))
    return 0


async def _serve(config: Config, file: Path) -> None:
    try:
        server = Server(config)
    except StorageError as error:
        raise CommandError(f"the database in {config.data_dir} cannot be opened: {error}") from error
    listeners: list[HttpListener] = []
    with _stop_signal(listeners) as stop:
        await server.start()
        try:
            await _open(server, listeners)
            await _tell_how_to_begin(server, _client_url(listeners, config), file)
            # What start-up made stays for good: the garbage collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            notify_systemd("READY=1")
            await stop.wait()
        except (ListenError, StorageError) as error:
            raise CommandError(str(error)) from error
        finally:
            notify_systemd("STOPPING=1")
            logger.info("stopping")
            await _drain(server, listeners)
            await server.stop()
            logger.info("stopped")


async def _open(server: Server, listeners: list[HttpListener]) -> None:
    """Open every configured listener, and the socket for the command line; those that are open are in the list."""
    for section in server.config.listen:
        listener = HttpListener(section, server.app(section))
        await listener.open()
        listeners.append(listener)
        logger.info("listening on %s", listener.url)
    local = HttpListener(Listener(address=f"{UNIX}{server.data.socket}"), server.local_app())
    await local.open()
    listeners.append(local)


def _client_url(listeners: Sequence[HttpListener], config: Config) -> str:
    """Where to point a client: the public URL, or else the first address that serves clients."""
    if config.public_url:
        return config.public_url
    for listener, section in zip(listeners, config.listen, strict=False):
        if "client" in section.serves:
            return listener.url.replace("//127.0.0.1:", "//localhost:")
    return "an address that serves clients (there is none in the configuration)"


async def _tell_how_to_begin(server: Server, url: str, file: Path) -> None:
    """On a server without accounts, say how the first one is made: it will be its administrator's."""
    command = shlex.join([sys.argv[0], "user", "create", "NAME", "--admin", "--config", str(file)])
    token = await server.accounts.registration_tokens.first()
    if token is None:
        return
    if server.config.registration.mode == "closed":
        print(f"There is no account yet. Make the administrator's with:\n  {command}", flush=True)
        return
    print(
        "There is no account yet. Register the first one, the administrator's, with any Matrix client at\n"
        f"  {url}\n"
        f"and this registration token, which is good for one account:\n  {token}\n"
        f"or with a web browser at\n  {invitation_link(url, token)}\n"
        f"Or make it with:\n  {command}",
        flush=True,
    )


async def _drain(server: Server, listeners: Sequence[HttpListener]) -> None:
    """No new connections; what waits is answered at once, what works may finish."""
    for listener in listeners:
        listener.stop_accepting()
    await server.drain()
    await asyncio.gather(*(listener.finish(_DRAIN_SECONDS) for listener in listeners))


@contextlib.contextmanager
def _stop_signal(listeners: Sequence[HttpListener]) -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; a second SIGINT ends the process. SIGHUP reloads the certificates."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def interrupt() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGHUP, _reload, listeners)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _reload(listeners: Sequence[HttpListener]) -> None:
    for listener in listeners:
        try:
            listener.reload_certificate()
        except ListenError as error:
            logger.error("%s; the one that was loaded before stays in use", error)
    logger.info("certificates reloaded")


def set_up_log(config: Config) -> None:
    """Everything goes to standard error; under systemd without the time, which the journal has itself."""
    under_systemd = "JOURNAL_STREAM" in os.environ
    form = "%(levelname)s %(name)s: %(message)s" if under_systemd else "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=config.log.level.upper(), format=form)
    logging.getLogger("tinyserver.requests").setLevel(logging.INFO if config.log.requests else logging.WARNING)
    # What a client sends wrong is its own affair.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.levelno >= logging.ERROR)


def notify_systemd(state: str) -> None:
    """Tell systemd (``Type=notify``) how far the server is; nothing happens where it did not start us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, contextlib.suppress(OSError):
        notify.sendto(state.encode("ascii"), address)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # a platform without it
        return None
    return uvloop.new_event_loop


def _raise_file_limit() -> None:
    """A connection is an open file, and the usual limit of 1024 is soon reached."""
    with contextlib.suppress(ValueError, OSError):  # a hardened service may not even ask
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
