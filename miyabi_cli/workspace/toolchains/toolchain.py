"""What a language's record holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_cli.workspace.check_records import Check, CheckPlan, Survey, TestReport


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders of one run of a check, at the same path on the host and for the command; none is in the tree.

    reports: for what test runners write, read after the run. leftovers: for what is of no use after it.
    builds: for compiled code, which the next check finds again. tools: the record's own `files`, not to be written.
    """

    reports: Path
    leftovers: Path
    builds: Path
    tools: Path


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A language and its tools.

    Patterns: `name` is a file's or folder's name (with `*`) anywhere, `name/` a folder with all below, `a/b` a path
    from the top of the tree.

    recognised: files that say that a tree is of this language.
    find: the checks of a surveyed tree. The commands say how they are run, the three below how results are read.
    variables: what every check of the tree is given; `{tree}` in a value is the tree's path as a command sees it.
    environment: variables that make the tools report test by test, stay offline and leave the tree clean, for a check
      whose `environment` is as the command will see it. Every check is given those of all languages, since any command
      may start any tool.
    files: what the tools are given, text by the file's name in `Folders.tools`.
    read_report: a report from a file that a runner wrote, by its name and content; None where it is JUnit XML or not
      this language's.
    read_output: a report from what was printed; an empty one where the text is not of this language's runner.
    shown_output: what was printed as a person reads it, where the runner prints for programs; else the text itself.
    found_no_test: whether what was printed says that the runner had no test to run.
    installed: texts that change when the tools do, or the packages that a repository's tests use; for a repository and
      the caller's environment.
    artifacts: what the tools leave behind, which never belongs in a patch unless the base tracks such files.
    tests: test files and what lies beside them.
    inline_tests: sources in which tests lie beside the code.
    with_base_tests: the text of such a source as a patch has it, but with the tests of the base's; None where there is
      nothing to change.
    configuration: what decides which tests run and how.
    programs: the tools themselves, each as the command that tells its version: for `doctor`.
    """

    name: str
    recognised: tuple[str, ...]
    find: Callable[[Survey], CheckPlan]
    environment: Callable[[Check, Folders], Mapping[str, str]]
    found_no_test: Callable[[str], bool]
    artifacts: tuple[str, ...]
    tests: tuple[str, ...]
    configuration: tuple[str, ...]
    installed: Callable[[Path, Mapping[str, str]], Iterable[str]]
    variables: Callable[[Survey], Mapping[str, str]] = lambda _survey: {}
    files: Mapping[str, str] = field(default_factory=dict)
    read_report: Callable[[str, bytes], TestReport | None] = lambda _name, _data: None
    read_output: Callable[[str], TestReport] = lambda _output: TestReport()
    shown_output: Callable[[str], str] = lambda output: output
    inline_tests: tuple[str, ...] = ()
    with_base_tests: Callable[[str, str], str | None] = lambda _base, _patched: None
    programs: tuple[tuple[str, ...], ...] = ()
