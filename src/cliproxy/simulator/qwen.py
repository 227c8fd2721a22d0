"""Qwen for people who logged in: Chat Completions at the place that the token names.

Source: https://github.com/QwenLM/qwen-code, checked 2026-10-20.
"""

import msgspec

from cliproxy.simulator import openai_chat
from cliproxy.simulator.accounts import Accounts, Dead
from cliproxy.simulator.exchange import Received, Refused, Reply, read_json

MODELS = ("qwen3-coder-plus", "qwen3-coder-flash", "coder-model", "vision-model")


class QwenChat:
    """The one endpoint that there is."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self.surface = msgspec.structs.replace(openai_chat.SURFACE, vendor="qwen", admit=self._admit)

    def complete(self, received: Received) -> Reply:
        """POST /compatible-mode/v1/chat/completions."""
        reply = openai_chat.complete(received)
        body = read_json(received.body)
        model = body.get("model") if isinstance(body, dict) else None
        if model not in MODELS:
            raise Refused(f"model `{model}` is not supported.", kind="invalid_parameter_error")
        return msgspec.structs.replace(reply, headers=(("x-request-id", received.request_id),))

    def _admit(self, received: Received) -> None:
        try:
            self._accounts.check("qwen", received.bearer)
        except Dead as dead:
            raise Refused("Invalid access token or token expired", status=401) from dead
