"""Random sequences of management calls and hand edits: file, memory and a model stay in step, comments included.

The model is what a person would expect: a few settings, a list of keys with a comment each, and lines that nobody but
hand edits touches. After every step the API must show the model, the file must read as the model, every comment that
should live must stand in the file once, and those of removed keys must be gone.
"""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from managed import Managed, soon

from cliproxy.config.document import read

START = """\
# top

port: 0
auth-dir: "AUTH_DIR"
remote-management: {secret-key: "mk"}   # the key
debug:    false     # aligned
request-retry: 3
quota-exceeded:
    switch-project: true # qp
unknown: {keep: [1, 2]} # mine

api-keys: # keys
- "k0" # c-k0
- k1   # c-k1
claude-api-key:
  - {api-key: ca, base-url: "https://a.example", custom: 1} # c-ca
# bottom
"""

NAMES = st.sampled_from([f"n{number}" for number in range(8)])
RETRIES = st.integers(min_value=0, max_value=9)


class Sequences(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = TemporaryDirectory()
        self.managed = Managed(Path(self.folder.name), START)
        self.debug = False
        self.retries = 3
        self.switch = True
        self.keys = ["k0", "k1"]
        self.comments = {"k0": "c-k0", "k1": "c-k1"}
        self.claude = {"ca": "https://a.example"}
        self.lines = ["# top", "# bottom", "# the key", "# aligned", "# qp", "# mine", "# keys"]
        self.numbers = itertools.count()

    def teardown(self) -> None:
        if hasattr(self, "managed"):
            self.managed.stop()
            self.folder.cleanup()

    @rule(value=st.booleans())
    def debug_is_set(self, value: bool) -> None:
        assert self.managed.put("/debug", {"value": value}).status == 200
        self.debug = value

    @rule(value=RETRIES)
    def retries_are_set(self, value: int) -> None:
        assert self.managed.patch("/request-retry", {"value": value}).status == 200
        self.retries = value

    @rule(value=st.booleans())
    def the_switch_is_set(self, value: bool) -> None:
        assert self.managed.put("/quota-exceeded/switch-project", {"value": value}).status == 200
        self.switch = value

    @rule(name=NAMES)
    def a_key_is_added(self, name: str) -> None:
        assert self.managed.patch("/api-keys", {"old": name, "new": name}).status == 200
        if name not in self.keys:
            self.keys.append(name)

    @rule(name=NAMES, data=st.data())
    def a_key_is_replaced(self, name: str, data: st.DataObject) -> None:
        if not self.keys:
            return
        old = data.draw(st.sampled_from(self.keys))
        assert self.managed.patch("/api-keys", {"old": old, "new": name}).status == 200
        self._replace(self.keys.index(old), name)

    def _replace(self, index: int, name: str) -> None:
        """As the contract says: a later duplicate is dropped, whichever of the two that is; its comment dies."""
        old = self.keys[index]
        if old == name:
            return
        comment = self.comments.pop(old, None)
        if name in self.keys:
            other = self.keys.index(name)
            kept = self.comments.get(name) if other < index else comment
            self.keys[index] = name
            del self.keys[max(index, other)]
            self.comments.pop(name, None)
        else:
            self.keys[index] = name
            kept = comment
        if kept is not None:
            self.comments[name] = kept

    @rule(data=st.data())
    def a_key_is_removed(self, data: st.DataObject) -> None:
        if not self.keys:
            return
        old = data.draw(st.sampled_from(self.keys))
        assert self.managed.delete(f"/api-keys?value={old}").status == 200
        self.keys.remove(old)
        self.comments.pop(old, None)

    @rule(data=st.data())
    def the_keys_are_put(self, data: st.DataObject) -> None:
        kept = data.draw(st.lists(st.sampled_from([*self.keys, "p0", "p1"]), unique=True, max_size=6))
        assert self.managed.put("/api-keys", kept).status == 200
        self.keys = kept
        self.comments = {name: comment for name, comment in self.comments.items() if name in kept}

    @rule(name=NAMES)
    def a_claude_key_is_put(self, name: str) -> None:
        wanted = [{"api-key": key, "base-url": url} for key, url in {**self.claude, name: ""}.items()]
        assert self.managed.put("/claude-api-key", wanted).status == 200
        self.claude.setdefault(name, "")

    @rule()
    def the_claude_key_with_a_comment_is_asked_for_twice(self) -> None:
        before = self.managed.file
        assert self.managed.patch("/claude-api-key", {"match": "ca", "value": {"api-key": "ca"}}).status == 200
        assert self.managed.file == before

    @rule()
    def something_wrong_is_sent(self) -> None:
        before = self.managed.file
        assert self.managed.put("/debug", {"value": 1}).status == 400
        assert self.managed.delete("/api-keys?value=nobody").status == 404
        assert self.managed.put("/claude-api-key", [{}]).status == 400
        assert self.managed.file == before

    @rule()
    def a_comment_is_written_by_hand(self) -> None:
        line = f"# hand {next(self.numbers)}"
        self._edit(self.managed.file.replace("# bottom\n", f"{line}\n# bottom\n"))
        self.lines.append(line)

    @rule(value=RETRIES)
    def retries_are_edited_by_hand(self, value: int) -> None:
        self._edit(self.managed.file.replace(f"request-retry: {self.retries}", f"request-retry: {value}"))
        self.retries = value

    @rule(value=RETRIES, debug=st.booleans())
    def a_hand_edit_and_a_call_meet(self, value: int, debug: bool) -> None:
        """The call comes before the watcher has seen the edit."""
        self._write(self.managed.file.replace(f"request-retry: {self.retries}", f"request-retry: {value}"))
        assert self.managed.put("/debug", {"value": debug}).status == 200
        self.retries, self.debug = value, debug

    def _edit(self, text: str) -> None:
        self._write(text)
        assert soon(lambda: self._shown("/request-retry") == read(text).config.request_retry)

    def _write(self, text: str) -> None:
        beside = self.managed.path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.managed.path)

    def _shown(self, path: str) -> object:
        value = self.managed.get(path).json
        assert isinstance(value, dict)
        return next(iter(value.values()))

    @invariant()
    def all_agree(self) -> None:
        if not hasattr(self, "managed"):
            return
        assert self._shown("/debug") == self.debug
        assert self._shown("/request-retry") == self.retries
        assert self._shown("/quota-exceeded/switch-project") == self.switch
        assert self._shown("/api-keys") == self.keys
        assert self._shown("/claude-api-key") == [{"api-key": k, "base-url": u} for k, u in self.claude.items()]
        text = self.managed.file
        config = read(text).config
        assert config.debug == self.debug
        assert config.request_retry == self.retries
        assert [key.reveal() for key in config.api_keys] == self.keys
        assert config.management_key_is_hashed
        assert "custom: 1" in text
        assert "c-ca" in text
        for line in self.lines:
            assert text.count(line + "\n") == 1, (line, text)
        for name in ("k0", "k1"):
            comment = f"c-{name}"
            assert text.count(comment) == (comment in self.comments.values()), (comment, text)


TestSequences = Sequences.TestCase
TestSequences.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
