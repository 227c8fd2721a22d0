"""What people paste, and what the vendor's redirect brings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.oauth.callback import Callback, read_callback, read_query
from cliproxy.wire.secrets import Secret

CODE = "4/0AX-y.z~1"

PASTED = [
    (f"http://localhost:8085/oauth2callback?code={CODE}&state=s1", CODE, "s1"),
    (f"  http://localhost:54545/callback?state=s1&code={CODE}\n", CODE, "s1"),
    (f"localhost:1455/auth/callback?code={CODE}&state=s1&scope=a+b", CODE, "s1"),
    (f"/callback?code={CODE}&state=s1", CODE, "s1"),
    ("https://h/callback?code=4%2F0AX&state=s1", "4/0AX", "s1"),
    (f"?code={CODE}", CODE, ""),
    (f"code={CODE}&state=s1", CODE, "s1"),
    (f"http://localhost/callback#code={CODE}&state=s1", CODE, "s1"),
    (f"http://localhost/callback?code={CODE}#state=s1", CODE, "s1"),
    (f"http://localhost/callback?code={CODE}&state=s1#_=_", CODE, "s1"),
    (f"http://localhost/callback?code={CODE}%23s1", CODE, "s1"),
    (f"{CODE}#s1", CODE, "s1"),
    (CODE, CODE, ""),
]


@pytest.mark.parametrize(("text", "code", "state"), PASTED, ids=[text.strip() for text, _, _ in PASTED])
def test_whatever_is_pasted_gives_code_and_state(text, code, state):
    assert read_callback(text) == Callback(Secret(code), state)


def test_a_refusal_is_read_with_its_words():
    callback = read_callback("http://localhost/cb?error=access_denied&error_description=No+thanks&state=s1")

    assert callback == Callback(Secret(), "s1", "access_denied", "No thanks")


def test_the_first_of_two_codes_counts():
    assert read_query("code=a&code=b&state=s").code == Secret("a")


@pytest.mark.parametrize(
    "text",
    ["", "   ", "#s1", "http://localhost:8085/callback", "http://localhost/cb?state=s1", "?state=s1", "two words", "<a>",
     "x" * 9000, "http://localhost/cb?code=&error=", "?" + "&".join(["a=b"] * 60)],
)  # fmt: skip
def test_what_holds_no_code_is_refused_in_a_sentence_that_repeats_nothing(text):
    with pytest.raises(ValueError, match=r"\.$") as caught:
        read_callback(text)

    assert "s1" not in str(caught.value)


def test_a_callback_does_not_show_its_code():
    assert CODE not in repr(read_callback(f"?code={CODE}&state=s1"))


@settings(deadline=None)
@given(st.text() | st.builds("http://localhost/cb?{}".format, st.text()))
def test_any_text_is_read_or_refused(text):
    try:
        callback = read_callback(text)
    except ValueError:
        return

    assert callback.code or callback.error
