"""Connection to a cluster: join one, or start one that belongs to this process."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

from nas.host import cores
from nas.host.interrupt import sigterm_as_interrupt

LOCAL = "local"
"""Address of a cluster that belongs to this process."""
_REACHED_S = 10.0
"""Time limit for a connection to the head."""


@contextlib.contextmanager
def connected(address: str, cpus: int = 0) -> Iterator[Any]:
    """Context in which Ray is connected to a cluster; an existing connection is used and kept.

    Args:
      address: See `ClusterSpec`.
      cpus: Minimum number of CPUs of a local cluster, which has one for each core in any case.

    Yields:
      The module `ray`.

    Raises:
      ValueError: There is no cluster at the address (known within seconds), or it has another
        version.
    """
    if address == LOCAL:
        os.environ[_LOOPBACK_ONLY] = "0"
    else:
        _check_reachable(address)
    # Ray reads these when it is imported. It sends no usage statistics, and `uv run` ships no
    # working tree.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # Without a limit Ray retries for ever.
    os.environ.setdefault("RAY_task_oom_retries", "3")
    # For a server that speaks HTTP/2 and then stays silent.
    os.environ.setdefault("RAY_py_gcs_connect_timeout_s", "15")
    import ray

    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options |= {"include_dashboard": False, "num_cpus": max(cpus, cores.count())}
    try:
        with _short_wait(address):
            ray.init(address, **options)
    except Exception as error:  # Ray raises `Exception` itself where a cluster does not start
        raise ValueError(f"`ray` {address}: cannot join a cluster there ({_why(error)})") from None
    try:
        with sigterm_as_interrupt():
            yield ray
    finally:
        ray.shutdown()


_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for systems where it makes no clusters.

"0": Ray's processes listen on 127.0.0.1, and the address "127.0.0.1" means just that. Otherwise
they listen on all interfaces, and Ray replaces "127.0.0.1" by the address by which others know this
machine. Ray reads it when it is imported. Seen in Ray 2.60.
"""


def _check_reachable(address: str) -> None:
    """Raise ValueError if nothing answers at the address; Ray would try for minutes.

    Call this before Ray is imported: a cluster that listens on 127.0.0.1 only needs another setting
    than one that other machines can reach.
    """
    host_and_port = address
    if address == "auto":
        host_and_port = os.environ.get("RAY_ADDRESS") or _last_started()
    host, colon, port = host_and_port.rpartition(":")
    if not colon or not port.isdigit():
        return  # Ray knows no cluster on this machine, and says so at once
    hosts = [_own_address(), "127.0.0.1"] if host in _LOOPBACK else [host]
    why = ""
    for candidate in hosts:
        try:
            with socket.create_connection((candidate, int(port)), _REACHED_S) as connection:
                is_http2 = _talks_http2(connection)
        except OSError as error:
            why = str(error)
            continue
        if not is_http2:
            raise ValueError(
                f"`ray` {address}: the server at this address is not a Ray head; "
                "is it the head's port (6379)?"
            )
        if candidate == "127.0.0.1":
            os.environ[_LOOPBACK_ONLY] = "0"
        return
    # For "auto" Ray looks for another cluster on this machine.
    if address != "auto" or "RAY_ADDRESS" in os.environ:
        raise ValueError(f"`ray` {address}: nothing answers there ({why}); is the head running?")


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""First bytes of an HTTP/2 client such as gRPC: the preface and an empty SETTINGS frame.

Source: RFC 9113, section 3.4.
"""
_FRAME_TYPE = 3
"""Position of the type in the header of a frame."""
_SETTINGS = 4
"""Type of a SETTINGS frame."""


def _talks_http2(connection: socket.socket) -> bool:
    """Whether the server answers as Ray does; Ray would retry another server for minutes."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return True  # it stays silent until a TLS handshake
    try:
        connection.sendall(_PREFACE)
        answer = connection.recv(_FRAME_TYPE + 1, socket.MSG_WAITALL)
    except OSError:  # silent, or gone
        return False
    return answer[_FRAME_TYPE:] == bytes((_SETTINGS,))


def _why(error: Exception) -> str:
    """The useful part of Ray's message, and a cure."""
    message = str(error.__cause__ or "").strip() or str(error).strip() or type(error).__name__
    message = message.splitlines()[-1].partition(". ")[0].removeprefix("ray.exceptions.")
    if "Authentication" in message:
        return (
            f"{message}; set RAY_AUTH_MODE=token, "
            "and copy the head's ~/.ray/auth_token to this machine"
        )
    if isinstance(error, ConnectionError):
        return f"{message}; start one with `ray start --head`"
    return message


def _last_started() -> str:
    """Address of the cluster last started on this machine, from Ray's file; "" if none."""
    path = pathlib.Path(tempfile.gettempdir(), "ray", "ray_current_cluster")
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _own_address() -> str:
    """Address of the interface that leads to other machines. Sends no packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 1))  # an address that nobody has (RFC 5737)
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


@contextlib.contextmanager
def _short_wait(address: str) -> Iterator[None]:
    """Context in which Ray gives up on another gRPC server after two seconds, not minutes."""
    name = "RAY_gcs_server_port_wait_time_s"
    if address == LOCAL or name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
