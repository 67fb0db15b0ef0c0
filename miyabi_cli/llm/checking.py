"""Requests that can't be: what is refused before anything is sent."""

from __future__ import annotations

import math
from typing import get_args

from miyabi_cli.errors import UsageError
from miyabi_cli.llm.profiles import Capabilities
from miyabi_cli.messages import ChatRequest, Effort, Sampling


def check_request(request: ChatRequest, capabilities: Capabilities) -> None:
    """Raise UsageError for what no server can do, or this one can't, and would be passed over in silence."""
    check_sampling(request.sampling)
    if request.schema is not None and request.functions:
        hint = "ask for the answer in a request of its own"
        raise UsageError("a request can't hold functions together with a schema", hint=hint)
    if not request.forced:
        return
    if request.forced not in [function.name for function in request.functions]:
        raise UsageError(f"the forced function {request.forced[:80]!r} is not among the functions of the request")
    if not capabilities.forced:
        raise UsageError("this server can't be told which function to call", hint="call_function does without")


def check_sampling(sampling: Sampling) -> None:
    """Raise UsageError for a temperature outside of 0 to 2, a cap under 1 token, or an effort that is none."""
    temperature, cap, effort = sampling.temperature, sampling.max_tokens, sampling.effort
    if temperature is not None and not (math.isfinite(temperature) and 0 <= temperature <= 2):
        raise UsageError(f"the temperature {temperature} is not between 0 and 2")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise UsageError(f"max_tokens is {cap}, and has to be a whole number of 1 or more")
    if effort is not None and effort not in get_args(Effort):
        raise UsageError(f"there is no effort {effort!r}", hint="low, medium or high")
