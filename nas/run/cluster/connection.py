"""Joining a cluster, or starting one of this machine's own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

from nas.run import cores
from nas.run.interrupt import terminated_as_interrupted

LOCAL = "local"
_REACHED_S = 10.0


@contextlib.contextmanager
def connected(address: str, cpus: int = 0) -> Iterator[Any]:
    """Ray, connected to a cluster; left alone if it is already.

    Args:
      address: see `Place`.
      cpus: of a local one, at least; it has one for each core in any case.

    Raises:
      ValueError: no cluster there, within seconds; or one of another version.
    """
    if address == LOCAL:
        os.environ[_CLOSED] = "0"
    else:
        _check_reachable(address)
    # before Ray is imported: nothing about its use is sent away; `uv run` ships no working tree to the workers
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_task_oom_retries", "3")  # else for ever
    os.environ.setdefault("RAY_py_gcs_connect_timeout_s", "15")  # for what speaks HTTP/2, and then says nothing
    import ray

    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options |= {"include_dashboard": False, "num_cpus": max(cpus, cores.count())}
    try:
        with _once_tried(address):
            ray.init(address, **options)
    except Exception as error:  # Ray raises `Exception` itself where a cluster does not start
        raise ValueError(f"--ray {address}: cannot join a cluster there ({_why(error)})") from None
    try:
        with terminated_as_interrupted():
            yield ray
    finally:
        ray.shutdown()


_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CLOSED = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for systems where it makes no clusters. "0": its processes listen on 127.0.0.1 and take "127.0.0.1"
as it is. Otherwise they listen on all interfaces, and take it for the address by which others know this machine. Read
when Ray is imported. Seen in Ray 2.60."""


def _check_reachable(address: str) -> None:
    """Raises ValueError if nothing answers; Ray would try for minutes. To be called before Ray is imported.

    A cluster that listens on 127.0.0.1 only is told from one that others can reach.
    """
    text = (os.environ.get("RAY_ADDRESS") or _last_started()) if address == "auto" else address
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        return  # Ray knows no cluster on this machine, and says so at once
    hosts, why = [_own_address(), "127.0.0.1"] if host in _LOOPBACK else [host], ""
    for one in hosts:
        try:
            with socket.create_connection((one, int(port)), timeout=_REACHED_S) as connection:
                talks = _talks_http2(connection)
        except OSError as error:
            why = str(error)
            continue
        if not talks:
            raise ValueError(f"--ray {address}: what answers there is no Ray cluster; is it the head's port (6379)?")
        if one == "127.0.0.1":
            os.environ[_CLOSED] = "0"
        return
    if address != "auto" or "RAY_ADDRESS" in os.environ:  # else Ray looks for another one on this machine
        raise ValueError(f"--ray {address}: nothing answers there ({why}); is the head running?")


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What a client of HTTP/2, as gRPC is, begins with: the preface and an empty SETTINGS frame. Source: RFC 9113, 3.4."""
_FRAME_TYPE, _SETTINGS = 3, 4


def _talks_http2(connection: socket.socket) -> bool:
    """Whether the other side answers as Ray does; Ray itself would ask anything else for minutes."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return True  # says nothing before it is greeted in TLS
    try:
        connection.sendall(_PREFACE)
        answer = connection.recv(_FRAME_TYPE + 1, socket.MSG_WAITALL)
    except OSError:  # silent, or gone
        return False
    return answer[_FRAME_TYPE:] == bytes((_SETTINGS,))


def _why(error: Exception) -> str:
    """What Ray says, as far as it helps, and a cure."""
    text = str(error.__cause__ or "").strip() or str(error).strip() or type(error).__name__
    text = text.splitlines()[-1].partition(". ")[0].removeprefix("ray.exceptions.")
    if "Authentication" in text:
        return f"{text}; set RAY_AUTH_MODE=token, and copy the head's ~/.ray/auth_token to this machine"
    return f"{text}; start one with `ray start --head`" if isinstance(error, ConnectionError) else text


def _last_started() -> str:
    """Address of the cluster that was last started on this machine; where Ray keeps it."""
    try:
        return pathlib.Path(tempfile.gettempdir(), "ray", "ray_current_cluster").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _own_address() -> str:
    """By which other machines know this one: that of the interface that leads outside. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 1))  # RFC 5737: nobody's
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


@contextlib.contextmanager
def _once_tried(address: str) -> Iterator[None]:
    """Where another server of gRPC answers, Ray tries for minutes; so it gives up after two seconds."""
    name = "RAY_gcs_server_port_wait_time_s"
    if address == LOCAL or name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
