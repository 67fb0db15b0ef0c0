"""Where settings come from, in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.errors import SettingsError
from miyabi_cli.settings.schema import Settings
from miyabi_cli.settings.sources import load_settings


class SettingsPlaces:
    """A user's configuration directory and a repository, and loading settings from them."""

    def __init__(self, root: Path) -> None:
        self.repository = root / "project"
        self.repository.mkdir()
        self.user_file = root / "config" / "config.yml"
        self.user_file.parent.mkdir()
        self.named = root / "named.yml"

    @classmethod
    def made(cls, root: Path, monkeypatch: pytest.MonkeyPatch) -> SettingsPlaces:
        """Make the places below a folder, and stand in the repository."""
        monkeypatch.setenv("MIYABI_CONFIG_DIR", str(root / "config"))
        monkeypatch.setenv("MIYABI_DATA_DIR", str(root / "data"))
        places = cls(root)
        monkeypatch.chdir(places.repository)
        return places

    def load(
        self,
        repository: str | bytes | None = None,
        *,
        user: str | None = None,
        named: str | None = None,
        flags: Mapping[str, Any] | None = None,
        **environ: str,
    ) -> Settings:
        for path, content in (
            (self.repository / ".miyabi.yml", repository),
            (self.user_file, user),
            (self.named, named),
        ):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_settings(
            flags=flags or {},
            environ={"MIYABI_TRUST_CONFIG": "1", **environ},
            repository=self.repository,
            config=None if named is None else self.named,
        )

    def outcome(self, *arguments: Any, **options: Any) -> Settings | SettingsError:
        try:
            return self.load(*arguments, **options)
        except SettingsError as error:
            return error

    def error(self, *arguments: Any, **options: Any) -> tuple[str, str]:
        with pytest.raises(SettingsError) as caught:
            self.load(*arguments, **options)
        assert "\n" not in caught.value.message
        return caught.value.message, caught.value.hint or ""
