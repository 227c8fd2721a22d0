"""OpenAI's list of models, with the fields that IDEs look for besides.

Source: https://platform.openai.com/docs/api-reference/models, checked 2026-11-24.
"""

from cliproxy.canon.models import ModelEntry
from cliproxy.wire import json


def write_models(models: list[ModelEntry]) -> bytes:
    return json.encode({"object": "list", "data": [shown(model) for model in models]})


def write_model(model: ModelEntry) -> bytes:
    return json.encode(shown(model))


def shown(model: ModelEntry) -> dict[str, object]:
    """One model, as an object of the list."""
    wire: dict[str, object] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owner,
        "display_name": model.display_name,
    }
    if model.context:
        wire["context_length"] = model.context
    if model.max_output:
        wire["max_completion_tokens"] = model.max_output
    return wire
