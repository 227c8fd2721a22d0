"""One simulator for the whole session, emptied before each test; the SDK clients that talk to it."""

import base64
from collections.abc import Iterator

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
