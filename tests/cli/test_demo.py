"""`demo` and `simulate`."""

import signal
import socket
import time

import pytest

from cliproxy.simulator import Simulator


def test_the_demo_shows_an_answer_in_each_dialect_and_ends(run):
    ended = run("demo", "--once", "--port", "0")

    assert ended.returncode == 0
    for dialect in ("Chat Completions", "Responses", "Messages", "generateContent"):
        assert f"echo: Hello from {dialect}" in ended.stdout
    assert ended.stderr == ""


def test_the_demo_takes_another_port_when_its_own_is_taken(run):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        ended = run("demo", "--once", "--port", str(port))

    assert ended.returncode == 0
    assert f"Gateway on http://127.0.0.1:{port}," not in ended.stdout


def test_the_demo_writes_no_file(run, home, folder):
    run("demo", "--once", "--port", "0")

    assert list(home.iterdir()) == list(folder.iterdir()) == []


def test_the_demo_serves_on_until_ctrl_c(begin):
    program = begin("demo", "--port", "0")
    program.says("Still serving")

    assert program.end(signal.SIGINT) == 0

    assert "Traceback" not in program.stderr


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_the_simulator_ends_without_a_traceback(begin, by):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = begin("simulate", "--port", str(port))
    program.says("Simulated vendors on")
    _reached(port)

    program.end(by)

    assert "Traceback" not in program.stderr


def test_a_taken_port_of_the_simulator_is_told_in_one_line(run):
    with Simulator() as other:
        ended = run("simulate", "--port", str(other.port))

    assert ended.returncode == 1
    assert f"Error: Cannot listen on 127.0.0.1:{other.port}: Address already in use." in ended.stderr
    assert "Traceback" not in ended.stderr


def _reached(port: int) -> None:
    """Wait until somebody listens there."""
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError
