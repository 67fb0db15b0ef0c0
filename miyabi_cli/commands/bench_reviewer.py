"""The review of the patches that `miyabi bench codegen --review` measures, as `miyabi review` makes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_cli.commands.access import Access

if TYPE_CHECKING:
    from miyabi_cli.workspace.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Reviews patches by linters and the model that is measured, on an account of its own."""

    access: Access
    sandbox: Callable[[Path], Sandbox]

    async def score(self, folder: Path, _base: str, commit: str) -> float | None:
        """Return the score of a commit of a repository, 0 to 100; None where its review is not complete.

        Raises MiyabiError where repository or machine fail.
        """
        from miyabi_cli.review.checkouts import Checkouts
        from miyabi_cli.review.hidden_characters import find_hidden_characters
        from miyabi_cli.review.linting import find_by_linters
        from miyabi_cli.review.means import ReviewMeans, Source
        from miyabi_cli.review.model.source import find
        from miyabi_cli.review.result import Gate
        from miyabi_cli.review.run import MODEL, SECRETS, ReviewPlan, run_review
        from miyabi_cli.review.secrets import find_secrets
        from miyabi_cli.review.selecting import Selection, select_change
        from miyabi_cli.runs import new_run_id
        from miyabi_cli.workspace.repository import open_repository
        from miyabi_cli.workspace.workspaces import open_workspace

        access, run_id = self.access, new_run_id()
        repository = await asyncio.to_thread(open_repository, folder)
        sources: dict[str, Source] = {"linters": find_by_linters, SECRETS: find_secrets, MODEL: find}
        with open_workspace(repository, run_id, folder.parent / "reviews") as workspace:
            change = await asyncio.to_thread(select_change, workspace, Selection(commit=commit))
            means = ReviewMeans(
                settings=access.settings,
                environ=access.environ,
                checkouts=Checkouts(workspace),
                sandbox=self.sandbox(folder),
                provider=await access.provider("bench", run_id, repository=str(folder)),
                redactor=access.redactor,
                deadline=time.monotonic() + access.settings.limits.seconds,
            )
            gate = Gate(access.settings.review.fail_under)
            plan = ReviewPlan(run_id, {**sources, "unicode": find_hidden_characters}, gate)
            result = await run_review(change, means, plan)
        return float(result.score) if result.complete else None
