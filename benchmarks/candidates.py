"""The programs that are compared: how each is configured and started in front of the fake upstream."""

import json
import os
import random
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cases import CASES, IDLE, Case

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = REPOSITORY / "build" / "bench"
CLIENT_KEY = "bench-key"
UPSTREAM_KEYS = ("sk-1", "sk-2", "sk-3", "sk-4")
# Below the range from which systems take the ports of outgoing connections (32768 and up on Linux): the load
# generator's own connections must not sit on the port of a candidate that is about to start.
_PORTS = range(20_000, 30_000)
_LITELLM_ENVIRONMENT = {
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_USE_CHAT_COMPLETIONS_URL_FOR_ANTHROPIC_MESSAGES": "true",
}


@dataclass(frozen=True, eq=False)
class Candidate:
    """A program to measure. Without a command it is the upstream itself: the `direct` row."""

    name: str
    port: int
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    key: str = CLIENT_KEY
    passes_through_only: bool = False
    start_seconds: float = 30.0

    @property
    def is_direct(self) -> bool:
        return not self.command


def direct(upstream_port: int) -> Candidate:
    return Candidate("direct", upstream_port, passes_through_only=True)


def nginx(folder: Path, upstream_port: int) -> Candidate | None:
    """A reverse proxy that replaces the key, as a gateway does; None where nginx is not installed."""
    program = find_nginx()
    if program is None:
        return None
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX % {"folder": folder, "port": port, "upstream": upstream_port, "key": UPSTREAM_KEYS[0]})
    command = (program, "-e", "stderr", "-p", str(folder), "-c", str(config))
    return Candidate("nginx", port, command, passes_through_only=True)


def find_nginx() -> str | None:
    """Where nginx is, also for users whose path leaves out the system's programs."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def gateway(folder: Path, upstream_port: int) -> Candidate:
    port = free_port()
    config = write_gateway_config(folder / "gateway", port, upstream_port)
    return Candidate("gateway", port, (sys.executable, "-m", "cliproxy.cli.main", "serve", "--config", str(config)))


def custom(text: str, number: int, folder: Path, upstream_port: int) -> Candidate:
    """A command of the user's, `[name=]CMD`; `{port}`, `{upstream}` and `{config}` (the gateway's YAML) are filled in."""
    named = re.match(r"([a-z][a-z0-9._-]*)=(.+)", text, re.DOTALL)
    name, line = (named[1], named[2]) if named else (f"custom-{number}", text)
    port = free_port()
    values = {
        "{port}": str(port),
        "{upstream}": f"http://127.0.0.1:{upstream_port}",
        "{config}": str(write_gateway_config(folder / f"custom-{number}", port, upstream_port)),
    }
    command = shlex.split(line)
    for place, value in values.items():
        command = [word.replace(place, value) for word in command]
    return Candidate(name, port, command)


def litellm(folder: Path, upstream_port: int) -> Candidate:
    """LiteLLM's proxy in a virtual environment of its own, which is made on first use.

    It refuses to start without a strong master key, so it gets one of its own for this run.
    """
    program = BUILD / "litellm" / "bin" / "litellm"
    if not program.exists():
        _install_litellm(program.parent)
    port = free_port()
    config = folder / "litellm.yaml"
    key = f"sk-{secrets.token_hex(32)}"
    config.write_text(json.dumps(_litellm_config(upstream_port, key), indent=2))  # every JSON text is YAML too
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1", "--telemetry", "False"]
    environment = {**_LITELLM_ENVIRONMENT, "PATH": f"{program.parent}:{os.environ.get('PATH', '')}"}
    return Candidate("litellm", port, command, environment, key, start_seconds=120.0)


def write_gateway_config(folder: Path, port: int, upstream_port: int) -> Path:
    """The configuration under which the gateway is measured: defaults, one key, one provider per upstream dialect."""
    folder.mkdir()
    config = folder / "config.yaml"
    lines = [
        "host: 127.0.0.1",
        f"port: {port}",
        f"auth-dir: {json.dumps(str(folder / 'auth'))}",
        f"api-keys: [{CLIENT_KEY}]",
        "openai-compatibility:",
        "  - name: bench",
        f"    base-url: http://127.0.0.1:{upstream_port}/v1",
        f"    api-keys: [{', '.join(UPSTREAM_KEYS)}]",
        *_model_lines("chat"),
        "claude-api-key:",
        "  - api-key: sk-a",
        f"    base-url: http://127.0.0.1:{upstream_port}",
        *_model_lines("messages"),
    ]
    config.write_text("\n".join(lines) + "\n")
    return config


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("found no free port between 20000 and 30000")


def _models(upstream_kind: str) -> dict[str, Case]:
    """The cases by the model name that their callers use."""
    return {case.model: case for case in (*CASES, IDLE) if case.upstream_kind == upstream_kind}


def _model_lines(upstream_kind: str) -> list[str]:
    rows = [
        f"{{name: {case.sees}, alias: {case.model}}}" if case.is_renamed else f"{{name: {case.sees}}}"
        for case in _models(upstream_kind).values()
    ]
    return ["    models:", *(f"      - {row}" for row in rows)]


def _litellm_config(upstream_port: int, key: str) -> dict[str, object]:
    origin = f"http://127.0.0.1:{upstream_port}"
    targets = {"chat": ("openai", f"{origin}/v1"), "messages": ("anthropic", origin)}
    rows = [
        {
            "model_name": case.model,
            "litellm_params": {"model": f"{provider}/{case.sees}", "api_base": base, "api_key": UPSTREAM_KEYS[0]},
        }
        for upstream_kind, (provider, base) in targets.items()
        for case in _models(upstream_kind).values()
    ]
    return {
        "model_list": rows,
        "general_settings": {"master_key": key, "disable_spend_logs": True, "disable_error_logs": True},
        "litellm_settings": {"telemetry": False, "drop_params": True, "num_retries": 0, "request_timeout": 600},
    }


def _install_litellm(programs: Path) -> None:
    print(f"installing litellm[proxy] into {programs.parent} (once, some minutes)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(programs.parent)], check=True)
    subprocess.run([str(programs / "pip"), "install", "--quiet", "litellm[proxy]"], check=True)


# The worker runs as whoever started it or as `nobody`; it needs no files, since bodies up to 256 KB stay in memory.
_NGINX = """\
daemon off;
worker_processes 1;
pid %(folder)s/nginx.pid;
error_log stderr error;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
    access_log off;
    client_max_body_size 64m;
    client_body_buffer_size 256k;
    client_body_temp_path %(folder)s/nginx-body;
    proxy_temp_path %(folder)s/nginx-proxy;
    fastcgi_temp_path %(folder)s/nginx-fastcgi;
    uwsgi_temp_path %(folder)s/nginx-uwsgi;
    scgi_temp_path %(folder)s/nginx-scgi;
    keepalive_requests 1000000000;
    upstream bench {
        server 127.0.0.1:%(upstream)d;
        keepalive 2048;
        keepalive_requests 1000000000;
    }
    server {
        listen 127.0.0.1:%(port)d backlog=2048;
        location / {
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer %(key)s";
            proxy_buffering off;
            proxy_read_timeout 600;
        }
    }
}
"""
