"""What linters keep from one review to the next: it saves time, and never changes what is found."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from miyabi_cli.review.checkouts import Checkouts
from miyabi_cli.workspace.builds import KEPT_SECONDS, KeptBuilds
from miyabi_cli.workspace.repository import open_repository
from miyabi_cli.workspace.workspaces import open_workspace
from tests.conftest import PYTHON, Miyabi
from tests.test_review import make_repository_by, result_of, told

Git = Callable[..., str]


def test_what_a_tool_keeps_is_one_command_s_at_a_time_and_begun_anew_each_week(tmp_path: Path) -> None:
    async def main() -> None:
        kept, other = (KeptBuilds(tmp_path / "home", name) for name in ("a-mypy", "b-mypy"))
        for builds in (kept, other):
            async with builds.opened(of_base=False) as folder:
                (folder / "file").touch()
        async with AsyncExitStack() as opened:
            first = await opened.enter_async_context(kept.opened(of_base=True))
            second = await opened.enter_async_context(kept.opened(of_base=False))
            assert (first / "file").exists()
            assert list(second.iterdir()) == []
        assert not second.exists()
        for name in ("a-mypy", "b-mypy"):
            os.utime(tmp_path / "home" / name / "lock", (time.time() - KEPT_SECONDS - 60,) * 2)
        async with kept.opened(of_base=False) as folder:
            assert list(folder.iterdir()) == []
        assert not (tmp_path / "home/b-mypy/files").exists()
        (tmp_path / "file").touch()
        async with KeptBuilds(tmp_path / "file", "mypy").opened(of_base=False) as folder:
            assert list(folder.iterdir()) == []  # the cache can't be made: done without

    asyncio.run(main())


def test_a_file_s_time_stands_for_what_it_holds(tmp_path: Path, git: Git) -> None:
    files = {"same.py": "A = 1\n", "changed.py": "B = 1\n", "link.py": "", "text.txt": "1"}
    root = make_repository_by(git, tmp_path / "project", files)
    (root / "link.py").unlink()
    (root / "link.py").symlink_to("same.py")
    (root / "changed.py").write_text("B = 2\n")
    git("commit", "-qam", "second", cwd=root)

    async def main() -> None:
        with open_workspace(open_repository(root), "run", tmp_path / "worktrees") as workspace:
            checkouts = Checkouts(workspace)
            trees = [git("rev-parse", f"{name}^{{tree}}", cwd=root).strip() for name in ("HEAD~1", "HEAD")]
            before, after = [(await checkouts.of(tree)).tree for tree in trees]
            assert (before / "same.py").stat().st_mtime == (after / "same.py").stat().st_mtime
            assert (before / "changed.py").stat().st_mtime != (after / "changed.py").stat().st_mtime
            assert (after / "text.txt").stat().st_mtime > time.time() - 3600

    asyncio.run(main())


def test_mypy_finds_the_same_with_what_it_has_kept(
    tmp_path: Path, git: Git, miyabi: Miyabi, environment: dict[str, str]
) -> None:
    environment["PATH"] = f"{Path(PYTHON).parent}:/usr/bin:/bin"
    root = make_repository_by(
        git,
        tmp_path / "project",
        {
            "pyproject.toml": "[tool.mypy]\nstrict = true\n",
            "a.py": "def one() -> int:\n    return 1\n",
            "b.py": "import a\n\nONE: int = a.one()\n",
        },
    )

    def review(text: str, *more: str) -> list[tuple[str, int, str, str]]:
        (root / "a.py").write_text(text)
        return told(result_of(miyabi("review", "--no-llm", "--format", "json", *more, cwd=root)))

    wrong = [("a.py", 2, "mypy", "return-value")]
    kept = Path(environment["MIYABI_CACHE_DIR"], "linters")
    (root / "a.py").write_text("def one() -> int:\n    return ''\n")
    (tmp_path / "a.diff").write_text(git("diff", cwd=root).rstrip("\n") + "\n")
    # somebody else's change could write what later reviews believe
    assert review("def one() -> int:\n    return ''\n", "--diff", str(tmp_path / "a.diff")) == wrong
    assert not kept.exists()
    assert review("def one() -> int:\n    return ''\n") == wrong
    assert list(kept.glob("*-mypy/files/mypy"))
    assert review("def one() -> int:\n    return 22\n") == []  # as long as the wrong one
    assert review("def one() -> int:\n    return ''\n") == wrong
    (root / "b.py").write_text("import a\n\nONE: str = a.one()\n")
    assert review("def one() -> int:\n    return 22\n") == [("b.py", 3, "mypy", "assignment")]


def test_what_a_linter_said_of_the_same_files_is_not_asked_again(
    tmp_path: Path, git: Git, miyabi: Miyabi, environment: dict[str, str]
) -> None:
    environment["PATH"] = f"{Path(PYTHON).parent}:/usr/bin:/bin"
    root = make_repository_by(
        git, tmp_path / "project", {"pyproject.toml": "[tool.ruff]\n", "a.py": "ONE = 1\n", "b.py": "import os\n"}
    )

    def messages(*more: str) -> list[str]:
        result = result_of(miyabi("review", "--no-llm", "--format", "json", *more, cwd=root))
        return [finding["message"] for finding in result["findings"]]

    def mark() -> None:
        for file in Path(environment["MIYABI_CACHE_DIR"], "checks").glob("*.json"):
            file.write_text(file.read_text().replace("imported but unused", "as it was kept"))

    (root / "new.py").write_text("import sys\n")
    assert messages() == ["`sys` imported but unused"]
    mark()
    assert messages() == ["`sys` as it was kept"]
    (root / "new.py").write_text("import json\n")
    assert messages() == ["`json` imported but unused"]
    git("add", "-A", cwd=root)
    (tmp_path / "new.diff").write_text(git("diff", "--cached", cwd=root).rstrip("\n") + "\n")
    git("reset", "-q", cwd=root)
    mark()
    assert messages("--diff", str(tmp_path / "new.diff")) == ["`json` imported but unused"]  # somebody else's
    assert messages() == ["`json` as it was kept"]
