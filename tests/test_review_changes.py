"""What a review takes for its change, and says of the parts that nobody looks at; and settings of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from miyabi_cli.review.model.asking import CATEGORIES
from miyabi_cli.review.scoring import WEIGHTS
from miyabi_cli.settings.value_types import WEIGHT_NAMES
from tests.conftest import PYTHON, Miyabi
from tests.test_review import ALONE, make_repository_by, marked, result_of

Git = Callable[..., str]


def test_submodules_are_named_whether_staged_or_not(tmp_path: Path, miyabi: Miyabi, git: Git) -> None:
    library = make_repository_by(git, tmp_path / "library", {"lib.py": "one = 1\n"})
    root = make_repository_by(git, tmp_path / "project", {"a.py": "a = 1\n"})
    names = ["ahead", "dirty", "gone", "same", "with space"]
    for name in names:
        git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), name, cwd=root)
    git("commit", "-qm", "submodules", cwd=root)
    (root / "ahead/lib.py").write_text("one = 2\n")
    git("commit", "-qam", "ahead", cwd=root / "ahead")
    (root / "dirty/lib.py").write_text("one = 3\n")
    (root / "with space/new.py").write_text("new = 1\n")
    git("submodule", "deinit", "-f", "gone", cwd=root)
    (root / "gone").rmdir()
    (root / "link.py").symlink_to("a.py")
    git("config", "diff.ignoreSubmodules", "all", cwd=root)  # what the user's own diffs show is another matter

    def left_out(*arguments: str, stdin: str | None = None) -> dict[str, str]:
        result = result_of(miyabi("review", *ALONE, "-f", "json", *arguments, cwd=root, stdin=stdin))
        assert (result["complete"], result["lines_added"], result["lines_removed"]) == (True, 0, 0)
        return {one["path"]: one["reason"] for one in result["skipped"]}

    changed = {name: "submodule" for name in names if name != "same"} | {"link.py": "symbolic link"}
    assert left_out() == left_out("HEAD") == changed
    assert left_out("--staged") == {}
    git("add", "--", "ahead", "link.py", cwd=root)
    assert left_out() == changed
    assert left_out("--staged") == {"ahead": "submodule", "link.py": "symbolic link"}
    # of what is not committed in a submodule git tells no mode
    diff = git("diff", "--ignore-submodules=none", "HEAD", cwd=root) + "\n"
    assert "-dirty" in diff
    assert left_out("--diff", "-", stdin=diff).items() >= {(name, "submodule") for name in ("ahead", "dirty", "gone")}
    assert left_out("--diff", "-", stdin=diff)["link.py"] == "symbolic link"


def test_weights_of_what_there_is_not_are_refused(tmp_path: Path, miyabi: Miyabi, git: Git) -> None:
    root = make_repository_by(git, tmp_path / "project", {"a.py": "a = 1\n"})
    settings = root / ".miyabi.yml"
    (root / "a.py").write_text(marked("a"))
    settings.write_text("review:\n  weights: {warning: 1, eror: 5}\n")
    ran = miyabi("review", *ALONE, cwd=root)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == "error: .miyabi.yml:2: unknown key 'eror' in review.weights\nhint: did you mean 'error'?\n"
    settings.write_text("review:\n  weights: {Security: 5}\n")
    result = result_of(miyabi("review", *ALONE, "-f", "json", cwd=root))
    assert result["breakdown"] == [{"reason": "security critical: 1", "points": -5}]
    assert {*WEIGHTS, *CATEGORIES, "lint"} == set(WEIGHT_NAMES)


def test_a_diff_that_is_in_the_tree_already_is_linted(
    tmp_path: Path, miyabi: Miyabi, git: Git, environment: dict[str, str]
) -> None:
    environment["PATH"] = f"{Path(PYTHON).parent}:/usr/bin:/bin"  # where ruff is
    files = {"ruff.toml": "lint.select = ['F']\n", "src/old.py": "import os\n"}
    root = make_repository_by(git, tmp_path / "project", files)
    (root / "src/old.py").write_text("import os\nimport sys\n")
    (root / "new.py").write_text("import re\n")
    git("add", "-A", cwd=root)
    git("commit", "-qm", "second", cwd=root)
    for setting in ("diff.noprefix=false", "diff.noprefix=true"):
        diff = git("-c", setting, "diff", "HEAD~1", cwd=root) + "\n"
        result = result_of(miyabi("review", "--no-llm", "--diff", "-", "-f", "json", cwd=root, stdin=diff))
        assert [(one["path"], one["line"]) for one in result["findings"]] == [("new.py", 1), ("src/old.py", 2)]
        assert (result["skipped"], result["head"]) == ([], git("rev-parse", "HEAD^{tree}", cwd=root))
    git("revert", "--no-edit", "HEAD", cwd=root)
    result = result_of(miyabi("review", "--no-llm", "--diff", "-", "-f", "json", cwd=root, stdin=diff))
    assert (len(result["findings"]), result["base"]) == (2, git("rev-parse", "HEAD^{tree}", cwd=root))
