"""The first start without a configuration, and the one after it."""

import re
import stat

KEY = re.compile(r"API key for your tools:  (\S+)")


def test_the_first_start_writes_a_file_for_its_owner_alone_and_serves(begin, home):
    program = begin("--port", "0")

    assert program.get("/healthz") == 200
    path = home / ".cli-proxy-api" / "config.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "host: 127.0.0.1" in path.read_text()


def test_the_keys_of_the_first_start_are_shown_and_work(begin, home):
    program = begin("--port", "0")

    said = program.says("Stop with Ctrl-C")
    key = KEY.search(said)[1]
    assert (home / ".cli-proxy-api" / "config.yaml").read_text().count(key) == 1
    assert len(key) > 30
    assert program.get("/v1/models", key) == 200
    assert program.get("/v1/models", "another") == 401


def test_the_management_key_of_the_first_start_works_and_only_its_hash_is_kept(begin, home):
    program = begin("--port", "0")

    said = program.says("Stop with Ctrl-C")
    key = re.search(r"Management key: +(\S+)", said)[1]
    text = (home / ".cli-proxy-api" / "config.yaml").read_text()
    assert key not in text
    assert "secret-key: $2b$10$" in text.replace('"', "")
    assert f"http://127.0.0.1:{program.port}/v0/management" in said
    assert program.get("/v0/management/debug", key) == 200
    assert program.get("/v0/management/debug", "another") == 401


def test_the_second_start_serves_and_shows_no_key(begin):
    first = begin("--port", "0")
    key = KEY.search(first.says("Stop with Ctrl-C"))[1]
    first.end()

    second = begin("--port", "0")

    assert second.get("/v1/models", key) == 200
    assert key not in second.stderr
    assert "Wrote" not in second.stderr


def test_two_first_starts_have_different_keys(begin, home):
    first = KEY.search(begin("--port", "0").says("Stop with Ctrl-C"))[1]
    (home / ".cli-proxy-api" / "config.yaml").unlink()

    second = KEY.search(begin("--port", "0").says("Stop with Ctrl-C"))[1]

    assert first != second


def test_a_file_in_the_working_folder_comes_first(begin, folder, home):
    (folder / "config.yaml").write_text("port: 0\napi-keys: [here]\n")

    program = begin()

    assert program.get("/v1/models", "here") == 200
    assert not (home / ".cli-proxy-api").exists()


def test_a_home_that_cannot_be_written_to_is_told_in_one_line(run, home):
    (home / ".cli-proxy-api").write_text("a file where a folder is needed")

    ended = run("--port", "0")

    assert ended.returncode == 1
    assert "Not a directory" in ended.stderr
    assert ended.stderr.count("\n") == 1
