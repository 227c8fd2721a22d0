"""`validate`: for people and for programs."""

import json


def test_a_good_file_is_good(run, folder):
    (folder / "config.yaml").write_text("port: 8317\n")

    ended = run("validate")

    assert ended.returncode == 0
    assert ended.stdout == "config.yaml: good\n"


def test_each_problem_is_a_line_with_its_path(run, folder):
    (folder / "config.yaml").write_text("port: many\nclaude-api-key:\n  - base-url: nowhere\n")

    ended = run("validate")

    assert ended.returncode == 1
    assert [line.split(": ")[:2] for line in ended.stdout.splitlines()] == [
        ["config.yaml:1", "$.port"],
        ["config.yaml:3", "$.claude-api-key[0]"],
        ["config.yaml:3", "$.claude-api-key[0].base-url"],
    ]


def test_a_warning_alone_is_no_failure(run, folder):
    (folder / "other.yaml").write_text("colour: blue\n")

    ended = run("validate", "--config", "other.yaml")

    assert ended.returncode == 0
    assert ended.stdout.startswith("warning: other.yaml:1: $.colour: ")


def test_programs_read_a_json_list(run, folder):
    (folder / "config.yaml").write_text("debug: perhaps\n")

    ended = run("validate", "--json")

    assert ended.returncode == 1
    (problem,) = json.loads(ended.stdout)
    assert (problem["file"], problem["line"], problem["path"]) == ("config.yaml", 1, "$.debug")
    assert problem["severity"] == "error"
    assert "perhaps" not in ended.stdout


def test_the_json_list_of_a_good_file_is_empty(run, folder):
    (folder / "config.yaml").write_text("port: 8317\n")

    ended = run("validate", "--json")

    assert (ended.returncode, json.loads(ended.stdout)) == (0, [])


def test_a_missing_file_is_a_problem_in_both_forms(run):
    plain, listed = run("validate"), run("validate", "--json")

    assert plain.returncode == listed.returncode == 1
    assert "No such file or directory" in plain.stdout
    assert json.loads(listed.stdout)[0]["path"] == "$"


def test_every_key_of_the_example_is_good(run, request):
    example = request.config.rootpath / "config.example.yaml"

    ended = run("validate", "--config", str(example))

    assert (ended.returncode, ended.stdout) == (0, f"{example}: good\n")
