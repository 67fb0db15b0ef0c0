"""What the sandbox shows of a machine's toolchains: real folders, laid out as installers leave them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from miyabi_cli.workspace.mounts import Toolchains, find_toolchains
from miyabi_cli.workspace.private_paths import PrivatePaths


@dataclass(frozen=True)
class Machine:
    """A home and a repository somewhere."""

    home: Path
    repository: Path

    def program(self, path: str | Path, text: str = "#!/bin/sh\n") -> Path:
        program = self.home / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
        return program

    def link(self, path: str, target: Path | str) -> Path:
        link = self.home / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
        return link

    def find(
        self, *search_path: Path | str, read: Sequence[Path] = (), write: Sequence[Path] = (), **variables: str
    ) -> Toolchains:
        path = ":".join(map(str, (*search_path, "/usr/bin", "/bin")))
        environ = {"HOME": str(self.home), "PATH": path, **variables}
        return find_toolchains(self.repository, environ, read, write)

    def shown(self, toolchains: Toolchains) -> list[str]:
        return [str(path.relative_to(self.home)) for path in toolchains.readable]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "home").mkdir()
    (tmp_path / "work/repository").mkdir(parents=True)
    return Machine(tmp_path / "home", tmp_path / "work/repository")


def environment_of(folder: Path, home: Path) -> None:
    """Lay out a virtual environment as `python -m venv` does."""
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(f"home = {home}\nversion = 3.12.1\n")
    (folder / "bin/python").symlink_to(home / "python3.12")


def test_a_bare_machine_needs_nothing_but_the_system(machine: Machine) -> None:
    assert machine.find() == Toolchains(search_path="/usr/bin:/bin")


@pytest.mark.parametrize("target", ["/dev/zero", "pipe"])
def test_an_environment_s_settings_that_never_end_are_not_read(machine: Machine, target: str) -> None:
    """A repository may bring any link, and a build any pipe."""
    folder = machine.repository / ".venv"
    folder.mkdir()
    if target == "pipe":
        os.mkfifo(folder / "pyvenv.cfg")
    else:
        (folder / "pyvenv.cfg").symlink_to(target)
    assert machine.find().dependencies == ((".venv", folder),)


def test_a_folder_of_programs_is_shown_alone(machine: Machine) -> None:
    machine.program("scripts/tool")
    toolchains = machine.find(machine.home / "scripts")
    assert machine.shown(toolchains) == ["scripts"]
    assert toolchains.search_path == f"{machine.home}/scripts:/usr/bin:/bin"


def test_an_installation_is_shown_whole(machine: Machine) -> None:
    machine.program("node-20/bin/node")
    (machine.home / "node-20/lib").mkdir()
    assert machine.shown(machine.find(machine.home / "node-20/bin")) == ["node-20"]


def test_a_virtual_environment_brings_the_python_that_made_it(machine: Machine) -> None:
    machine.program("pythons/3.12/bin/python3.12")
    environment_of(machine.home / "envs/a", machine.home / "pythons/3.12/bin")
    toolchains = machine.find(machine.home / "envs/a/bin", VIRTUAL_ENV=str(machine.home / "envs/a"))
    assert machine.shown(toolchains) == ["envs/a", "pythons/3.12"]
    assert toolchains.variables == {"VIRTUAL_ENV": str(machine.home / "envs/a")}


def test_a_managed_python_comes_with_the_links_beside_it(machine: Machine) -> None:
    python = machine.program(".local/share/uv/python/cpython-3.12.1/bin/python3.12")
    machine.link(".local/share/uv/python/cpython-3.12", "cpython-3.12.1")
    environment_of(machine.home / "env", machine.home / ".local/share/uv/python/cpython-3.12/bin")
    toolchains = machine.find(machine.home / "env/bin")
    assert machine.shown(toolchains) == [".local/share/uv/python", "env"]
    assert python.is_relative_to(toolchains.variables["UV_PYTHON_INSTALL_DIR"])


def test_version_managers_are_shown_and_named(machine: Machine) -> None:
    for name in (".pyenv/shims/python", ".nvm/versions/node/v20/bin/node", ".rustup/toolchains/stable/bin/rustc"):
        machine.program(name)
    toolchains = machine.find(machine.home / ".pyenv/shims", machine.home / ".nvm/versions/node/v20/bin")
    assert machine.shown(toolchains) == [".nvm", ".pyenv", ".rustup"]
    names = {"PYENV_ROOT": ".pyenv", "NVM_DIR": ".nvm", "RUSTUP_HOME": ".rustup"}
    assert toolchains.variables == {name: str(machine.home / folder) for name, folder in names.items()}


def test_a_variable_moves_a_version_manager(machine: Machine, tmp_path: Path) -> None:
    machine.program(tmp_path / "elsewhere/pyenv/shims/python")
    toolchains = machine.find(PYENV_ROOT=str(tmp_path / "elsewhere/pyenv"))
    assert toolchains.readable == (tmp_path / "elsewhere/pyenv",)


def test_cargo_is_shown_without_its_credentials(machine: Machine) -> None:
    machine.program(".cargo/bin/cargo")
    machine.program(".cargo/registry/cache/crate")
    machine.program(".cargo/git/db/crate")
    machine.program(".cargo/credentials.toml")
    toolchains = machine.find(machine.home / ".cargo/bin")
    assert machine.shown(toolchains) == [".cargo/bin", ".cargo/git", ".cargo/registry"]
    assert toolchains.variables == {"CARGO_HOME": str(machine.home / ".cargo")}


def test_caches_for_builds_without_a_network_are_shown_where_they_hold_something(machine: Machine) -> None:
    for name in ("go/pkg/mod/m", ".npm/_cacache/index", ".m2/repository/a.jar", ".local/lib/python3.12/x"):
        machine.program(name)
    (machine.home / ".cargo/registry").mkdir(parents=True)
    toolchains = machine.find()
    assert machine.shown(toolchains) == [".local/lib", ".m2/repository", ".npm/_cacache", "go/pkg/mod"]
    assert toolchains.variables == {
        "GOMODCACHE": str(machine.home / "go/pkg/mod"),
        "PYTHONUSERBASE": str(machine.home / ".local"),
    }


def test_links_to_programs_bring_what_they_lead_to(machine: Machine) -> None:
    machine.program(".local/share/pipx/venvs/ruff/bin/ruff")
    machine.program("opt/node/bin/node")
    (machine.home / "opt/node/lib").mkdir()
    machine.program("projects/secret-project/run.sh")
    machine.link(".local/bin/ruff", machine.home / ".local/share/pipx/venvs/ruff/bin/ruff")
    machine.link(".local/bin/node", "../../opt/node/bin/node")
    machine.link(".local/bin/run", machine.home / "projects/secret-project/run.sh")
    machine.link(".local/bin/broken", machine.home / "nowhere")
    expected = [".local/bin", ".local/share/pipx", "opt/node", "projects/secret-project/run.sh"]
    assert machine.shown(machine.find(machine.home / ".local/bin")) == expected


def test_a_link_on_the_way_is_kept(machine: Machine) -> None:
    machine.program("node-20/bin/node")
    (machine.home / "node-20/lib").mkdir()
    machine.link("current", "node-20")
    machine.link("bin/node", machine.home / "current/bin/node")
    toolchains = machine.find(machine.home / "bin")
    assert machine.shown(toolchains) == ["bin", "node-20"]
    assert toolchains.links == ((machine.home / "current", machine.home / "node-20"),)


@pytest.mark.parametrize("entry", ["/", "", ".", "bin", "{home}", "{home}/..", "/etc", "/nowhere/bin"])
def test_a_strange_path_opens_nothing(machine: Machine, entry: str) -> None:
    toolchains = machine.find(entry.format(home=machine.home))
    assert toolchains == Toolchains(search_path="/usr/bin:/bin")


@pytest.mark.parametrize("name", [".ssh", ".aws", ".config", ".config/tool/bin", ".local", ".cargo", ".gnupg/bin"])
def test_private_folders_are_not_opened_by_path(machine: Machine, name: str) -> None:
    machine.program(f"{name}/tool")
    assert machine.find(machine.home / name).readable == ()


def test_a_link_to_a_private_folder_does_not_open_it(machine: Machine) -> None:
    machine.program(".ssh/id")
    machine.link("bin", machine.home / ".ssh")
    machine.link("tools/key", machine.home / ".ssh/id")
    toolchains = machine.find(machine.home / "bin", machine.home / "tools")
    assert machine.shown(toolchains) == ["tools"]
    assert toolchains.links == ()


def test_named_paths_are_shown_but_secrets_in_them_covered(machine: Machine) -> None:
    for name in (".cargo/config.toml", ".cargo/credentials.toml", ".npmrc", ".ssh/id", "data/x"):
        machine.program(name)
    toolchains = machine.find(read=[machine.home], write=[machine.home / "data"])
    assert toolchains.readable == (machine.home,)
    assert toolchains.writable == (machine.home / "data",)
    assert toolchains.masked == tuple(machine.home / name for name in (".cargo/credentials.toml", ".npmrc", ".ssh"))


def test_a_secret_that_the_user_names_is_shown(machine: Machine) -> None:
    machine.program(".config/tool/settings")
    toolchains = machine.find(read=[machine.home / ".config/tool"])
    assert machine.shown(toolchains) == [".config/tool"]


def test_what_only_the_checkout_has_is_found_in_it(machine: Machine) -> None:
    repository = machine.repository
    machine.program("pythons/bin/python3.12")
    environment_of(repository / ".venv", machine.home / "pythons/bin")
    for name in ("node_modules", "packages/web/node_modules", "deep/er/still/node_modules", ".hidden/node_modules"):
        (repository / name).mkdir(parents=True)
    toolchains = machine.find(repository / ".venv/bin", repository / "tools")
    assert [below for below, _ in toolchains.dependencies] == [".venv", "node_modules", "packages/web/node_modules"]
    assert machine.shown(toolchains) == ["pythons"]
    assert toolchains.search_path == f"{repository}/.venv/bin:/usr/bin:/bin"


def test_an_environment_of_another_name_is_found_by_path(machine: Machine) -> None:
    machine.program("pythons/bin/python3.12")
    environment_of(machine.repository / "env-3.12", machine.home / "pythons/bin")
    toolchains = machine.find(machine.repository / "env-3.12/bin", VIRTUAL_ENV=str(machine.repository / "env-3.12"))
    assert toolchains.dependencies == (("env-3.12", machine.repository / "env-3.12"),)
    assert toolchains.variables == {"VIRTUAL_ENV": str(machine.repository / "env-3.12")}


def test_a_linked_environment_is_shown_at_both_places(machine: Machine) -> None:
    machine.program("pythons/bin/python3.12")
    environment_of(machine.home / "envs/a", machine.home / "pythons/bin")
    (machine.repository / ".venv").symlink_to(machine.home / "envs/a")
    toolchains = machine.find()
    assert toolchains.dependencies == ((".venv", machine.home / "envs/a"),)
    assert machine.shown(toolchains) == ["envs/a", "pythons"]


def test_the_repository_itself_is_never_shown_by_path(machine: Machine) -> None:
    assert machine.find(machine.repository).readable == ()
    assert machine.find(machine.repository).dependencies == ()


@pytest.mark.parametrize("path", ["/", "/etc", "/etc/shadow", "/home", "/root", "/opt", "/home/u", "/home/u/.ssh/x"])
def test_private_paths_are_refused(path: str) -> None:
    assert not PrivatePaths(Path("/home/u")).allows(Path(path))


@pytest.mark.parametrize("path", ["/opt/tool", "/home/u/bin", "/home/u/.pyenv", "/srv/x/bin", "/home/other/env"])
def test_toolchains_are_not(path: str) -> None:
    assert PrivatePaths(Path("/home/u")).allows(Path(path))


def test_a_folder_that_can_not_even_be_looked_at_is_not_there(machine: Machine) -> None:
    """So does another user's home answer, whose PATH and PYENV_ROOT `su` has left behind."""
    closed = Path("/", "x" * 300)  # root may look everywhere, but not at a name that is too long
    assert machine.shown(machine.find(closed, closed / "bin", PYENV_ROOT=str(closed))) == []
