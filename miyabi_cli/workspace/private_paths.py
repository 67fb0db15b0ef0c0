"""Paths that a sandbox must not open by itself: places too wide to be shown whole, and where secrets lie."""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path

# Never shown whole, nor a folder above them; what lies below may be a toolchain.
_WIDE = (
    *("/etc", "/home", "/root", "/var", "/tmp", "/var/tmp", "/run", "/proc", "/sys", "/dev", "/boot", "/mnt", "/media"),  # noqa: S108
    *("/opt", "/srv", "/snap", "/nix", "/gnu", "/Users"),
)
_WIDE_IN_HOME = ("", ".local", ".local/share", ".local/state", ".cache", ".cargo", ".m2", ".npm", ".gradle", "go")

# Never shown, nor anything below: keys, tokens, histories, and the memory of other programs.
_SECRET = ("/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d", "/etc/ssl/private", "/etc/pki/tls/private")
_SECRET_IN_HOME = (
    *(".ssh", ".gnupg", ".pki", ".password-store", ".local/share/keyrings", ".local/share/python_keyring"),
    *(".aws", ".azure", ".kube", ".docker", ".oci", ".terraform.d", ".vault-token", ".boto", ".s3cfg", ".fly"),
    *(".config", ".netrc", "_netrc", ".git-credentials", ".gitconfig", ".hgrc", ".subversion", ".databrickscfg"),
    *(".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc", ".pip", ".gem/credentials", ".bundle", ".composer/auth.json"),
    *(".cargo/credentials", ".cargo/credentials.toml", ".m2/settings.xml", ".m2/settings-security.xml"),
    *(".gradle/gradle.properties", ".nuget/NuGet.Config", ".sbt", ".ivy2/.credentials", ".pgpass", ".my.cnf"),
    *(".mozilla", ".thunderbird", ".claude", ".claude.json", ".codex", ".gemini", ".cache/huggingface/token"),
    *(".huggingface", ".kaggle", ".wakatime.cfg", ".bash_history", ".zsh_history", ".python_history", ".psql_history"),
    *(".local/share/miyabi", ".cache/miyabi"),
)


class PrivatePaths:
    """The private paths of the user with that home folder."""

    def __init__(self, home: Path | None) -> None:
        homes = [] if home is None else list(dict.fromkeys((home, home.resolve())))
        wide = [*map(Path, _WIDE), *(folder / name for folder in homes for name in _WIDE_IN_HOME)]
        self._too_wide = {above for path in wide for above in (path, *path.parents)}
        self._secret = {*map(Path, _SECRET), *(folder / name for folder in homes for name in _SECRET_IN_HOME)}

    def allows(self, path: Path) -> bool:
        """Say whether a path may be shown without the user's having named it."""
        return path not in self._too_wide and not is_below(path, self._secret)

    def secrets_below(self, paths: Set[Path]) -> Iterator[Path]:
        """Yield the secrets that lie below paths that are shown: they are to be covered."""
        for secret in self._secret:
            if secret not in paths and not paths.isdisjoint(secret.parents) and secret.exists():
                yield secret


def is_below(path: Path, folders: Set[Path]) -> bool:
    """Say whether a path is one of the folders or lies below one."""
    return path in folders or not folders.isdisjoint(path.parents)
