"""A real web browser: headless Chromium, told by its DevTools protocol where to click and what to type.

Scripts are switched off in its pages, as for people who do so: everything must work with plain HTML.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

T = TypeVar("T")

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
_START_TIMEOUT = 60.0
_TIMEOUT = 30.0


class Chromium:
    """One browser with one page; use it with `async with`. It keeps its profile in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._numbers = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.complaints: list[str] = []
        """What the browser itself says against pages: refused by the content security policy, broken cookies."""

    async def __aenter__(self) -> Chromium:
        self._http = aiohttp.ClientSession()
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        assert PROGRAM is not None
        profile = self._directory / "profile"
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        arguments += ["--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        with (self._directory / "chromium.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                PROGRAM, *arguments, "about:blank", stdout=log, stderr=log
            )
        port_file = profile / "DevToolsActivePort"
        port = await until(lambda: port_file.exists() and port_file.read_text().partition("\n")[0], _START_TIMEOUT)
        base = f"http://127.0.0.1:{port}"
        async with self._http.get(f"{base}/json/list") as answer:
            page = next(each for each in await answer.json() if each["type"] == "page")
        self._socket = await self._http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        self._reader = asyncio.create_task(self._read())
        for domain in ("Page", "DOM", "Log"):
            await self.ask(f"{domain}.enable")
        await self.ask("Emulation.setScriptExecutionDisabled", value=True)

    async def _stop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        await self._http.close()
        if self._process is not None:
            self._process.terminate()
            await asyncio.wait_for(self._process.wait(), _TIMEOUT)

    async def ask(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol and its answer."""
        self._numbers += 1
        number = self._numbers
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        try:
            return await asyncio.wait_for(answer, _TIMEOUT)
        finally:
            del self._answers[number]

    async def open(self, url: str) -> None:
        """Go to a page."""
        await self.ask("Page.navigate", url=url)

    async def location(self) -> str:
        """The address of the page, with its fragment."""
        history = await self.ask("Page.getNavigationHistory")
        url: str = history["entries"][history["currentIndex"]]["url"]
        return url

    async def forget(self) -> None:
        """Forget all cookies: the next page is opened by somebody else."""
        await self.ask("Network.clearBrowserCookies")

    async def find(self, selector: str) -> int:
        """Wait for an element; its number."""

        async def look() -> int:
            try:
                root = (await self.ask("DOM.getDocument"))["root"]["nodeId"]
                found: int = (await self.ask("DOM.querySelector", nodeId=root, selector=selector))["nodeId"]
            except RuntimeError:  # the page was changing just then
                return 0
            return found

        deadline = asyncio.get_running_loop().time() + _TIMEOUT
        while not (node := await look()):
            assert asyncio.get_running_loop().time() < deadline, f"no {selector} on the page:\n{await self.html()}"
            await asyncio.sleep(0.05)
        return node

    async def html(self) -> str:
        """The page as it is now."""

        async def read() -> str:
            root = (await self.ask("DOM.getDocument"))["root"]["nodeId"]
            text: str = (await self.ask("DOM.getOuterHTML", nodeId=root))["outerHTML"]
            return text

        return await self._on_a_steady_page(read)

    async def type(self, selector: str, text: str) -> None:
        """Type into a field."""

        async def focus() -> None:
            await self.ask("DOM.focus", nodeId=await self.find(selector))

        await self._on_a_steady_page(focus)
        await self.ask("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        """Click into the middle of an element."""

        async def look() -> list[float]:
            node = await self.find(selector)
            await self.ask("DOM.scrollIntoViewIfNeeded", nodeId=node)
            corners: list[float] = (await self.ask("DOM.getBoxModel", nodeId=node))["model"]["content"]
            return corners

        corners = await self._on_a_steady_page(look)
        place = {"x": (corners[0] + corners[4]) / 2, "y": (corners[1] + corners[5]) / 2}
        for kind in ("mousePressed", "mouseReleased"):
            await self.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    @staticmethod
    async def _on_a_steady_page(act: Callable[[], Awaitable[T]]) -> T:
        """Do something with elements, again if the page made way for the next one meanwhile."""
        deadline = asyncio.get_running_loop().time() + _TIMEOUT
        while True:
            try:
                return await act()
            except RuntimeError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            answer = self._answers.get(told.get("id", 0))
            if answer is not None and not answer.done():
                if "error" in told:
                    answer.set_exception(RuntimeError(told["error"]["message"]))
                else:
                    answer.set_result(told["result"])
            elif told.get("method") == "Log.entryAdded":
                self.complaints.append(told["params"]["entry"]["text"])


class Callback:
    """The native client's own little web server, to which the browser comes back; use it with `async with`."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.url = ""

    async def __aenter__(self) -> Callback:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/callback"
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        if target.startswith("/callback"):
            self.targets.append(target)
        page = b"<!doctype html><title>client</title><p id=welcome>Welcome back"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + page)
        await writer.drain()
        writer.close()


async def until(condition: Callable[[], Any], timeout: float = _TIMEOUT) -> Any:
    """Wait until the condition gives something, and return that."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not (found := condition()):
        assert asyncio.get_running_loop().time() < deadline, f"nothing within {timeout} s"
        await asyncio.sleep(0.05)
    return found
