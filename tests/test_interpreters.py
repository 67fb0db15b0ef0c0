"""Which Python is found, and what it is said to have."""

from __future__ import annotations

import sys
from pathlib import Path

from miyabi_cli.workspace.interpreters import find_interpreters, first_with
from tests.support.trees import make_environment, write_tree


def test_the_nearest_environment_leads(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    outside = make_environment(tmp_path / "other", "pytest")
    make_environment(repository / "venv")
    make_environment(repository / "backend/.venv", "pytest")
    found = find_interpreters(repository, {"PATH": str(outside)}, "backend")
    assert [python.command for python in found] == [
        str(repository / "backend/.venv/bin/python"),
        str(repository / "venv/bin/python"),
        "python3",
        "python",
    ]
    assert [python.has("pytest") for python in found] == [True, False, True, True]
    assert first_with(found[1:], "pytest") == found[2]
    assert first_with(found, "nothing_of_this_name") is None


def test_the_interpreter_of_these_tests_has_what_they_import(tmp_path: Path) -> None:
    found = find_interpreters(tmp_path, {"PATH": str(Path(sys.executable).parent)})
    assert found[0].has("pytest")
    assert not found[0].has("no_module_of_this_name")


def test_an_environment_may_see_the_packages_of_its_base(tmp_path: Path) -> None:
    base = make_environment(tmp_path / "base", "pytest")
    (tmp_path / "base/pyvenv.cfg").unlink()
    (base / "python").unlink()
    (base / "python").write_bytes(b"\x7fELF")
    for name, shared in (("with", "true"), ("without", "false")):
        folder = tmp_path / name / ".venv"
        make_environment(folder)
        (folder / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = {shared}\n")
        assert find_interpreters(tmp_path / name, {"PATH": ""})[0].has("pytest") == (shared == "true")


def test_a_shim_is_asked(tmp_path: Path) -> None:
    real = make_environment(tmp_path / "versions/3.x", "pytest") / "python"
    shims = write_tree(tmp_path / "shims", {"python3": f'#!/bin/sh\nexec "{real}" "$@"\n'})
    (shims / "python3").chmod(0o755)
    repository = write_tree(tmp_path / "repository", {"a.py": ""})
    found = find_interpreters(repository, {"PATH": str(shims)})
    assert [(python.command, python.real) for python in found] == [("python3", real)]
    assert found[0].has("pytest")


def test_a_shim_that_fails_has_nothing(tmp_path: Path) -> None:
    shims = write_tree(tmp_path / "shims", {"python3": "#!/bin/sh\nexit 127\n"})
    (shims / "python3").chmod(0o755)
    assert not find_interpreters(tmp_path, {"PATH": str(shims)})[0].has("pytest")


def test_a_script_of_the_repository_is_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    script = f"#!/bin/sh\ntouch {canary}\necho /usr/bin/python3\n"
    repository = write_tree(tmp_path / "repository", {"bin/python3": script, ".venv/bin/python": script})
    for name in ("bin/python3", ".venv/bin/python"):
        (repository / name).chmod(0o755)
    found = find_interpreters(repository, {"PATH": str(repository / "bin")})
    assert [python.command for python in found] == ["python3"]
    assert not found[0].has("pytest")
    assert found[0].fingerprint()
    assert not canary.exists()


def test_the_fingerprint_follows_the_packages(tmp_path: Path) -> None:
    make_environment(tmp_path / ".venv")

    def fingerprint() -> str:
        return find_interpreters(tmp_path, {"PATH": ""})[0].fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    site = find_interpreters(tmp_path, {"PATH": ""})[0].site_folders[0]
    write_tree(site, {"installed/__init__.py": ""})
    second = fingerprint()
    (tmp_path / ".venv/pyvenv.cfg").write_text("home = /elsewhere\n")
    assert len({first, second, fingerprint()}) == 3
