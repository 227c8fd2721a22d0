"""What a person sees in a browser at a simulated vendor: a question with two buttons, a refusal, a farewell."""

from html import escape

from cliproxy.simulator.exchange import HTML_BODY, Refused, Reply

ANYBODY = "someone@example.com"
"""Who logs in when no e-mail was given."""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 4rem auto; padding: 0 1rem }}
button, input {{ font: inherit; padding: .4rem .8rem }}</style></head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
_CONSENT = """\
<p>This is a simulated vendor: nobody asks for a password here.</p>
<p>{asks}</p>
<form method="post">
<p><label>Account <input id="email" name="email" type="email" value="{email}" required></label></p>
<p><button id="approve" name="answer" value="approve">Approve</button>
<button id="deny" name="answer" value="deny" formnovalidate>Deny</button></p>
</form>"""


def consent(title: str, asks: str) -> Reply:
    """A form that posts `email` and `answer` (`approve` or `deny`) to the address of the page itself."""
    body = _CONSENT.format(asks=escape(asks), email=ANYBODY)
    return _page(200, title, body)


def message(title: str, text: str, status: int = 200) -> Reply:
    return _page(status, title, f'<p id="message">{escape(text)}</p>')


def refusal(refused: Refused, request_id: str) -> Reply:
    """What a browser is shown when a login cannot even begin."""
    return message("This login cannot go on", f"{refused.kind or 'invalid_request'}: {refused.message}", refused.status)


def _page(status: int, title: str, body: str) -> Reply:
    content = _PAGE.format(title=escape(title), body=body).encode()
    return Reply(status=status, content_type=HTML_BODY, headers=(("cache-control", "no-store"),), frames=(content,))
