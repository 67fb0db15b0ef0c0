"""What a run would do, found out without asking a model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from miyabi_cli.codegen.continuing import begin_worktree
from miyabi_cli.codegen.means import Means
from miyabi_cli.codegen.plan import Voice
from miyabi_cli.codegen.request import CodegenRequest
from miyabi_cli.codegen.run import open_plan
from miyabi_cli.codegen.workers import head_of
from miyabi_cli.llm.chat.encoding import encode_request
from miyabi_cli.messages import Function, Message
from miyabi_cli.runs import new_run_id
from miyabi_cli.workspace.workspaces import open_workspace

BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Preview:
    """`checks`: (name, command, what it gives on the base). `request_bytes`: of the first request.

    `prompt_tokens` is an estimate at four bytes a token; `output_tokens` bounds what all replies may hold;
    `cost_bound_usd` is the run's cap, None where there is none.
    """

    provider: str
    model: str
    base: str
    checks: tuple[tuple[str, str, str], ...]
    messages: tuple[Message, ...]
    functions: tuple[Function, ...]
    request_bytes: int
    prompt_tokens: int
    output_tokens: int
    cost_bound_usd: float | None
    warnings: tuple[str, ...]


async def preview(request: CodegenRequest, means: Means) -> Preview:
    """Gather the context, run the base's checks, and measure the first request; no model is asked."""
    voice = Voice(lambda _: None)
    run_id = new_run_id()
    workspace = await asyncio.to_thread(open_workspace, means.repository, run_id, means.settings.worktree.path)
    try:
        plan = await open_plan(request, means, workspace, voice)
        worktree = await asyncio.to_thread(begin_worktree, plan, "preview")
        messages, functions = head_of(plan, worktree)
        body = encode_request(model=plan.provider.model_name, messages=messages, functions=functions, options={})
        status = {run.name: run.status for run in plan.base_runs}
        return Preview(
            provider=plan.provider.name,
            model=plan.provider.model_name,
            base=plan.base,
            checks=tuple((check.name, check.command, status.get(check.name, "skip")) for check in plan.checks),
            messages=messages,
            functions=functions,
            request_bytes=len(body),
            prompt_tokens=len(body) // BYTES_PER_TOKEN,
            output_tokens=(plan.sampling.max_tokens or 0) * plan.allowance.bounds.steps * request.tries(plan.profile),
            cost_bound_usd=plan.allowance.bounds.cost_usd,
            warnings=tuple(warning.message for warning in voice.warnings),
        )
    finally:
        await asyncio.to_thread(workspace.close)
