"""One simulator for the whole session, emptied before each test; the SDK clients that talk to it."""

import base64
import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlencode

import anthropic
import openai
import pytest
from google import genai

from cliproxy.simulator import Simulator

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="session")
def simulated() -> Iterator[Simulator]:
    with Simulator() as sim:
        yield sim


@pytest.fixture
def sim(simulated: Simulator) -> Simulator:
    simulated.reset()
    return simulated


@pytest.fixture(scope="session")
def openai_client(simulated: Simulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-sim-openai", base_url=simulated.url + "/v1", max_retries=0, timeout=5) as client:
        yield client


@pytest.fixture(scope="session")
def anthropic_client(simulated: Simulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="sk-sim-anthropic", base_url=simulated.url, max_retries=0, timeout=5) as client:
        yield client


@pytest.fixture(scope="session")
def gemini_client(simulated: Simulator) -> Iterator[genai.Client]:
    client = genai.Client(api_key="sk-sim-gemini", http_options={"base_url": simulated.url, "timeout": 5000})
    yield client
    client.close()


@pytest.fixture
def png() -> bytes:
    """A picture of one pixel, 70 bytes."""
    return PNG


class Answered:
    """What a plain HTTP caller got."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def events(self):
        """The data of each server-sent event."""
        return [json.loads(line[6:]) for line in self.body.splitlines() if line.startswith(b"data: ")]


@pytest.fixture
def call(sim: Simulator):
    """Calls the simulator as no SDK would: `body` is sent as JSON, `form` as a form."""

    def send(method: str, path: str, body=None, *, form=None, token=None, headers=None) -> Answered:
        head = dict(headers or {})
        content = None
        if form is not None:
            content, head["content-type"] = urlencode(form), "application/x-www-form-urlencoded"
        elif body is not None:
            content, head["content-type"] = json.dumps(body), "application/json"
        if token is not None:
            head["authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=5)
        try:
            connection.request(method, path.removeprefix(sim.url), content, head)
            return Answered(connection.getresponse())
        finally:
            connection.close()

    return send


@pytest.fixture
def token_of(sim: Simulator):
    """An access token of somebody who has logged in; options as `Accounts.issue` has them."""

    def issue(kind: str, email: str = "ada@example.com", **options) -> str:
        members = sim.accounts.issue(kind, email, **options)
        return members["token"]["access_token"] if kind == "gemini" else members["access_token"]

    return issue
