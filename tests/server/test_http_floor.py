"""The running server as a stranger sees it: versions, unknown endpoints, junk, start and stop, the command line."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import NewUser
from .harness import TinyServer, free_port

VERSIONS = [
    *("r0.0.1", "r0.1.0", "r0.2.0", "r0.3.0", "r0.4.0", "r0.5.0", "r0.6.0", "r0.6.1"),
    *(f"v1.{minor}" for minor in range(1, 20)),
]


@pytest.fixture
def http(server: TinyServer) -> Any:
    with httpx.Client(base_url=server.base_url, trust_env=False, timeout=20) as client:
        yield client


def test_versions_without_holes(http: httpx.Client) -> None:
    answer = http.get("/_matrix/client/versions", headers={"Authorization": "Bearer long-gone"})
    assert answer.status_code == 200
    assert answer.json()["versions"] == VERSIONS
    assert all(value is True for value in answer.json()["unstable_features"].values())
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/_matrix/client/v3/no/such/thing", 404),
        ("GET", "/_matrix/client/unstable/org.example/thing", 404),
        ("POST", "/_matrix/client/versions", 405),
        ("DELETE", "/_matrix/client/v3/login", 405),
        ("PATCH", "/_matrix/client/v3/login", 405),
    ],
)
def test_unknown_endpoints(http: httpx.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["errcode"] == "M_UNRECOGNIZED"
    assert answer.headers["access-control-allow-origin"] == "*"


def test_preflight_of_a_browser(http: httpx.Client) -> None:
    answer = http.options(
        "/_matrix/client/v3/login", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code == 204
    assert "Authorization" in answer.headers["access-control-allow-headers"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS"]),
    st.lists(
        st.sampled_from(["_matrix", "client", "v3", "login", "%00", "%2F", "..", "", "{x}"])
        | st.text("aZ%/?#", max_size=9)
    ),
    st.binary(max_size=300),
)
def test_junk_never_breaks_the_server(server: TinyServer, method: str, segments: list[str], body: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = f"{method} /{'/'.join(segments)} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        head += f"content-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.split(b" ")[1] in (b"200", b"204", b"400", b"401", b"403", b"404", b"405"), answer


def test_an_idle_server_sleeps(server: TinyServer) -> None:
    def cpu_ticks() -> int:
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def wakeups() -> int:
        text = Path(f"/proc/{server.pid}/status").read_text()
        return int(text.partition("voluntary_ctxt_switches:")[2].split()[0])

    time.sleep(0.2)  # what the tests before have started comes to rest
    ticks, woken = cpu_ticks(), wakeups()
    time.sleep(1)  # the time that is measured
    assert cpu_ticks() - ticks <= 1
    assert wakeups() - woken <= 2


def test_memory_of_an_idle_server(fresh_server: TinyServer) -> None:
    status = Path(f"/proc/{fresh_server.pid}/status").read_text()
    resident_kib = int(status.partition("VmRSS:")[2].split()[0])
    assert resident_kib < 60 * 1024


def test_sigterm_drains_and_says_so(fresh_server: TinyServer) -> None:
    with httpx.Client(base_url=fresh_server.base_url, trust_env=False) as client:
        client.get("/_matrix/client/versions")  # a connection that is kept alive must not hold up the stop
        start = time.monotonic()
        fresh_server.stop()
        assert time.monotonic() - start < 5
    assert "stopped" in fresh_server.log.text()
    assert not (fresh_server.data_dir / "control.sock").exists()


def test_listeners_serve_what_they_are_told(make_server: Any) -> None:
    first, second = free_port(), free_port()
    server = make_server(start=False)
    server.init()
    server.write_config(
        {
            "listen": [
                {"address": f"127.0.0.1:{server.port}", "serves": ["client"]},
                {"address": f"127.0.0.1:{first}", "serves": ["federation", "media"]},
                {"address": f"localhost:{second}", "serves": ["client"]},
            ]
        }
    )
    server.start()
    for port, status in ((server.port, 200), (first, 404), (second, 200)):
        answer = httpx.get(f"http://127.0.0.1:{port}/_matrix/client/versions", trust_env=False)
        assert answer.status_code == status


def test_what_init_writes(make_server: Any) -> None:
    server = make_server(start=False)
    server.init()
    config = tomllib.loads(server.config_file.read_text())
    assert config["server_name"] == server.server_name
    for path, mode in ((server.data_dir, 0o700), (server.data_dir / "signing.key", 0o600), (server.config_file, 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
    before = server.config_file.read_bytes()
    again = server.command(
        "init", "--server-name", "other", "--data", str(server.data_dir), "--config", str(server.config_file)
    )
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert server.config_file.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--config", "none.toml"], "none.toml does not exist"),
        (["init", "--server-name", "no name", "--data", "d"], "no server name"),
        (["user", "create", "x", "--config", "none.toml", "--password-stdin"], "none.toml does not exist"),
    ],
)
def test_errors_of_the_command_line(make_server: Any, arguments: list[str], words: str) -> None:
    done = make_server(start=False).command(*arguments, stdin="p\n")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_server_on_the_same_data_is_refused(fresh_server: TinyServer) -> None:
    done = fresh_server.command("serve", "--config", str(fresh_server.config_file))
    assert done.returncode == 1
    assert "another tinyserver is running" in done.stderr


def test_an_address_in_use_is_explained(make_server: Any, fresh_server: TinyServer) -> None:
    other = make_server(start=False)
    other.init()
    other.write_config({"listen": [{"address": f"127.0.0.1:{fresh_server.port}"}]})
    done = other.command("serve", "--config", str(other.config_file))
    assert done.returncode == 1
    assert f"cannot listen at 127.0.0.1:{fresh_server.port}" in done.stderr


def test_a_stop_right_after_the_start_is_clean(make_server: Any) -> None:
    server = make_server(start=False)
    server.init()
    for _ in range(3):
        mark = server.launch()
        server.log.wait_for(r"\blistening\b", process=server._process, since=mark)
        server.stop()  # fails unless the exit code is 0


def test_a_file_that_is_no_database_is_explained(make_server: Any) -> None:
    server = make_server(start=False)
    server.init()
    (server.data_dir / "tinyserver.db").write_bytes(b"this is no database " * 1000)
    done = server.command("serve", "--config", str(server.config_file))
    assert done.returncode == 1
    assert "cannot be opened" in done.stderr
    assert "Traceback" not in done.stderr


def test_systemd_is_told(make_server: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        address = f"\0tinyserver-test-{os.getpid()}"
        notify.bind(address)
        notify.settimeout(20)
        server = make_server(environment={"NOTIFY_SOCKET": address.replace("\0", "@")})
        assert notify.recv(100) == b"READY=1"
        server.stop()
        assert notify.recv(100) == b"STOPPING=1"


def log_in(server: TinyServer, user: str, password: str) -> httpx.Response:
    identifier = {"type": "m.id.user", "user": user}
    body = {"type": "m.login.password", "identifier": identifier, "password": password}
    return httpx.post(f"{server.base_url}/_matrix/client/v3/login", json=body, trust_env=False, timeout=20)


def create_user(server: TinyServer, *arguments: str, password: str = "pass-word") -> subprocess.CompletedProcess[str]:
    config = str(server.config_file)
    return server.command("user", "create", *arguments, "--config", config, "--password-stdin", stdin=password + "\n")


def test_user_create_while_the_server_runs_and_while_it_does_not(fresh_server: TinyServer) -> None:
    server = fresh_server
    done = create_user(server, "online", "--admin")
    assert done.returncode == 0, done.stderr
    assert "Created @online:tiny.test (administrator)" in done.stdout
    assert log_in(server, "online", "pass-word").status_code == 200
    server.stop()
    assert create_user(server, "@offline:tiny.test").returncode == 0
    taken = create_user(server, "online")
    assert (taken.returncode, taken.stdout) == (1, "")
    assert "taken" in taken.stderr
    server.start()
    assert log_in(server, "offline", "pass-word").status_code == 200
    assert log_in(server, "offline", "wrong").status_code == 403
    assert "taken" in create_user(server, "offline").stderr
    assert create_user(server, "nobody", password="").returncode == 1


def test_the_local_socket_is_private_and_nowhere_else(fresh_server: TinyServer) -> None:
    assert stat.S_IMODE((fresh_server.data_dir / "control.sock").stat().st_mode) == 0o600
    body = {"name": "mallory", "password": "pass-word", "admin": True}
    answer = httpx.post(f"{fresh_server.base_url}/_tinyserver/local/users", json=body, trust_env=False)
    assert answer.status_code == 404


async def test_older_clients_send_and_redact_without_a_transaction_id(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    old = f"/_matrix/client/r0{alice.room(room)}"
    message = {"msgtype": "m.text", "body": "twice"}
    sent = [(await alice.request("POST", f"{old}/send/m.room.message", message))["event_id"] for _ in range(2)]
    assert sent[0] != sent[1]
    await alice.request("POST", f"{old}/redact/{sent[0]}", {"reason": "once is enough"})
    page = await alice.messages(room)
    assert [event["content"] for event in page["chunk"] if event["event_id"] in sent] == [message, {}]
    await alice.request("PUT", f"{old}/send/m.room.message", message, expect=405, errcode="M_UNRECOGNIZED")
