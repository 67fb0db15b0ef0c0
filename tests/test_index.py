"""Which package index is asked, and which wheel of its page is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from miyabi_cli.llm.local.index import PUBLIC_INDEX, find_wheel, index_url, project_url, without_credentials

PAGE_URL = "https://index.example/simple/some-model/"
JSON = "application/vnd.pypi.simple.v1+json"


def in_home(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PIP_CONFIG_FILE": str(home / "none")}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, PUBLIC_INDEX),
        ({"PIP_INDEX_URL": "https://a.example/simple"}, "https://a.example/simple"),
        ({"UV_INDEX_URL": "https://b.example", "PIP_INDEX_URL": "https://a.example"}, "https://b.example"),
        ({"UV_DEFAULT_INDEX": "mine=https://c.example", "UV_INDEX_URL": "https://b.example"}, "https://c.example"),
        ({"UV_DEFAULT_INDEX": "https://c.example/?a=b"}, "https://c.example/?a=b"),
        ({"PIP_INDEX_URL": "  "}, PUBLIC_INDEX),
    ],
)
def test_variables_name_the_index(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    assert index_url({**in_home(tmp_path), **environ}, prefix=tmp_path) == expected


@pytest.mark.parametrize("place", [".pip/pip.conf", ".config/pip/pip.conf", "venv/pip.conf", "elsewhere.conf"])
def test_pips_files_name_the_index(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[global]\nindex-url = https://d.example/simple\n[install]\nindex-url = no\n")
    environ = {"HOME": str(tmp_path)}
    if place == "elsewhere.conf":
        environ["PIP_CONFIG_FILE"] = str(path)
    assert index_url(environ, prefix=tmp_path / "venv") == "https://d.example/simple"


def test_a_broken_file_of_pip_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("no section = at all\n")
    assert index_url(in_home(tmp_path), prefix=tmp_path) == PUBLIC_INDEX


def test_the_null_device_means_no_file_of_pip(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://d.example\n")
    assert index_url({"PIP_CONFIG_FILE": "/dev/null"}, prefix=tmp_path) == PUBLIC_INDEX


def test_names_are_normalized() -> None:
    assert project_url("https://index.example/simple/", "Some_Model.2") == "https://index.example/simple/some-model-2/"


def test_only_a_wheel_of_that_version_is_taken() -> None:
    files = [
        {"filename": "some_model-1.0.tar.gz", "url": "a", "hashes": {}},
        {"filename": "some_model-0.9-py3-none-any.whl", "url": "b", "hashes": {}},
        {"filename": "some_model-1.0-py3-none-any.whl", "url": "c", "hashes": {}, "yanked": "broken"},
        {"filename": "other-1.0-py3-none-any.whl", "url": "d", "hashes": {}},
        {"filename": "Some.Model-1.0-py3-none-any.whl", "url": "../../e.whl", "hashes": {"sha256": "ab"}},
    ]
    wheel = find_wheel(json.dumps({"files": files}), JSON, PAGE_URL, "some-model", "1.0")
    assert wheel is not None
    assert (wheel.url, wheel.sha256) == ("https://index.example/e.whl", "ab")
    assert find_wheel(json.dumps({"files": files}), JSON, PAGE_URL, "some-model", "2.0") is None


def test_yanked_links_of_html_are_left_out() -> None:
    page = '<a href="/a/some_model-1.0-py3-none-any.whl" data-yanked="">x</a><a name="no-link">y</a>'
    assert find_wheel(page, "text/html", PAGE_URL, "some-model", "1.0") is None


@pytest.mark.parametrize("page", ["not json", "[]", '{"files": [{"filename": "x"}]}', '{"files": [1]}'])
def test_a_broken_page_is_a_value_error(page: str) -> None:
    with pytest.raises(ValueError, match="not a page of a package index"):
        find_wheel(page, JSON, PAGE_URL, "some-model", "1.0")


def test_credentials_go_to_the_indexs_own_host_alone() -> None:
    files = [{"filename": "some_model-1.0-py3-none-any.whl", "url": "https://index.example/a.whl", "hashes": {}}]
    page_url = PAGE_URL.replace("://", "://ada:pw@")
    wheel = find_wheel(json.dumps({"files": files}), JSON, page_url, "some-model", "1.0")
    assert wheel is not None
    assert wheel.url == "https://ada:pw@index.example/a.whl"
    files[0]["url"] = "https://files.example/a.whl"
    wheel = find_wheel(json.dumps({"files": files}), JSON, page_url, "some-model", "1.0")
    assert wheel is not None
    assert wheel.url == "https://files.example/a.whl"


def test_what_is_shown_of_an_address_has_no_secret() -> None:
    assert without_credentials("https://ada:pw@h.example:8/a/b?token=x#y") == "https://h.example:8/a/b"
