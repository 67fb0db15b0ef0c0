"""Rust: cargo test and clippy, offline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from miyabi_cli.workspace.check_records import Check, CheckPlan, Survey
from miyabi_cli.workspace.interpreters import stamp
from miyabi_cli.workspace.runners.cargo_test import cargo_found_no_test, read_cargo_test
from miyabi_cli.workspace.toolchains.inline_tests import with_base_tests
from miyabi_cli.workspace.toolchains.manifests import (
    check_in,
    folders_with,
    has_program,
    in_folder,
    left_out,
    program_stamps,
    read_toml,
)
from miyabi_cli.workspace.toolchains.toolchain import Folders, Toolchain

_PLAIN = re.compile(r"[\w.+-]{1,100}")
_NAMED = 3


def find_rust_checks(survey: Survey) -> CheckPlan:
    """Return the checks of the package or workspace nearest to the tree's top."""
    folders = folders_with(survey, "Cargo.toml")
    if not folders:
        return CheckPlan()
    if not has_program(survey, "cargo"):
        return CheckPlan((), ("the Rust code is not checked: there is no cargo on PATH",))
    folder = folders[0]
    every = _every_package(survey.text(in_folder(folder, "Cargo.toml")))
    # one failing test binary must not hide the next
    checks = [check_in(folder, "cargo test", f"cargo test --no-fail-fast{every}")]
    if has_program(survey, "cargo-clippy"):
        checks.append(check_in(folder, "clippy", f"cargo clippy --all-targets{every} --message-format=json"))
    notes = (*left_out("Rust packages", folder, folders), *_missing_crates(survey, folder))
    return CheckPlan(tuple(checks), notes)


def _every_package(manifest: str) -> str:
    """Return the option for all members of a workspace, unless it says itself which ones are meant."""
    workspace = read_toml(manifest).get("workspace")
    return " --workspace" if isinstance(workspace, dict) and "default-members" not in workspace else ""


def _missing_crates(survey: Survey, folder: str) -> Iterator[str]:
    """Yield a note where crates of Cargo.lock lie nowhere on this machine: no check has a network to get them by."""
    packages = read_toml(survey.text(in_folder(folder, "Cargo.lock"), 4_000_000)).get("package")
    if not isinstance(packages, list) or any(path.startswith((".cargo/config", "vendor/")) for path in survey.files):
        return
    named = [package for package in packages if isinstance(package, dict) and "source" in package]
    crates = [f"{package.get('name')}-{package.get('version')}" for package in named if _from_registry(package)]
    home = _cargo_home(survey.environ)
    caches = list(home.glob("registry/cache/*")) if home else []
    plain = [crate for crate in crates if _PLAIN.fullmatch(crate)]
    missing = [crate for crate in plain if not any((cache / f"{crate}.crate").is_file() for cache in caches)]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        names = ", ".join(missing[:_NAMED])
        yield f"crates are missing on this machine ({names}{more}), and checks have no network: run cargo fetch"


def _from_registry(package: Mapping[str, object]) -> bool:
    return str(package["source"]).startswith(("registry+", "sparse+"))


def _cargo_home(environ: Mapping[str, str]) -> Path | None:
    moved, home = environ.get("CARGO_HOME", ""), environ.get("HOME", "")
    return Path(moved) if moved.startswith("/") else Path(home, ".cargo") if home.startswith("/") else None


def _installed(_repository: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield stamps of the programs, what rustup has chosen and installed, and the folders of crates."""
    yield from program_stamps(environ, "cargo", "rustc", "cargo-clippy")
    rustup = Path(environ.get("RUSTUP_HOME") or Path(environ.get("HOME", "/"), ".rustup"))
    yield from map(stamp, (rustup / "settings.toml", *sorted(rustup.glob("toolchains/*/lib/rustlib/components"))))
    if home := _cargo_home(environ):
        yield from map(stamp, sorted(home.glob("registry/cache/*")))


def _environment(_check: Check, folders: Folders) -> Mapping[str, str]:
    return {
        "CARGO_NET_OFFLINE": "true",
        "CARGO_TARGET_DIR": str(folders.builds / "cargo"),
        "CARGO_TERM_COLOR": "never",
        # what is built is copied for each attempt, and neither of the two serves a single build
        "CARGO_INCREMENTAL": "0",
        "CARGO_PROFILE_DEV_DEBUG": "0",
        # the place of a panic is told in any case; a backtrace's other frames are not the repository's
        "RUST_BACKTRACE": "0",
    }


RUST = Toolchain(
    name="rust",
    recognised=("Cargo.toml",),
    find=find_rust_checks,
    environment=_environment,
    installed=_installed,
    inline_tests=("*.rs",),
    with_base_tests=with_base_tests,
    read_output=read_cargo_test,
    found_no_test=cargo_found_no_test,
    # a lock file that the base does not track is a library's, and cargo writes it by itself
    artifacts=("Cargo.lock", "*.rs.bk", "*.profraw"),
    tests=("tests.rs", "test.rs", "*_test.rs", "*_tests.rs", "tests/"),
    configuration=(
        *("nextest.toml", "clippy.toml", ".clippy.toml", "rust-toolchain", "rust-toolchain.toml"),
        *(".cargo/config.toml", ".cargo/config"),
    ),
    programs=(("cargo", "--version"), ("rustc", "--version")),
)
