"""What a running command uses of the machine, where no kernel limit holds: processes as root, disk and memory in total.

A look now and then is cheap (a few reads); only when the whole machine grew past a limit is the command's own part
counted, by walking /proc or the folders that it can write. Without /proc only the disk is seen.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from miyabi_cli.workspace.hidden_files import bytes_in_memory, hides_files

_PAGE = os.sysconf("SC_PAGESIZE")


class Watch:
    """Made before the command starts; `processes` counts threads too, `disk_bytes` what is written in `folders`,
    `memory_bytes` what all its processes take together."""

    def __init__(
        self, folders: Sequence[Path], *, processes: int, disk_bytes: int, memory_bytes: int | None = None
    ) -> None:
        self._folders = tuple(folders)
        self._processes = processes
        self._disk_bytes = disk_bytes
        self._memory_bytes = memory_bytes
        self._started = time.time()
        self._threads_before = threads_of_machine()
        self._memory_before = _available_memory()
        self._free_before = [_free_bytes(folder) for folder in self._folders]

    def suspicious(self) -> bool:
        """Say whether the machine as a whole changed by more than the command may."""
        if threads_of_machine() - self._threads_before > self._processes or self.taken() > self._disk_bytes:
            return True
        return self._memory_bytes is not None and self._memory_before - _available_memory() > self._memory_bytes

    def taken(self) -> int:
        """Return the bytes that the free space of the folders' disks shrank by, whoever took them."""
        now = (_free_bytes(folder) for folder in self._folders)
        return max((before - free for before, free in zip(self._free_before, now, strict=True)), default=0)

    def too_many(self, inside: int | None) -> str | None:
        """Count the processes of a pid namespace, named by one of them, at one stroke: a fork bomb leaves no time.

        None also where that can't be seen, as by an ordinary user, for whom the kernel's own limit holds.
        """
        count = 0 if inside is None else sum(1 for _ in pids(f"/proc/{inside}/root/proc"))
        return f"more than {self._processes} processes" if count > self._processes else None

    def verdict(self, pid: int) -> str | None:
        """Return what the command did too much of, or None. It walks folders: call it in a thread."""
        if reason := self.verdict_of_processes(pid):
            return reason
        written = written_bytes(dict.fromkeys(self._folders, self._started), descendants(pid))
        if (self.taken() if written is None else written) > self._disk_bytes:
            return f"more than {self._disk_bytes} bytes written to disk"
        return None

    def verdict_of_processes(self, pid: int) -> str | None:
        """Return what its processes did too much of, or None, in some ten milliseconds.

        What others free meanwhile hides from `suspicious` what the command takes, so this is to be asked now and then.
        """
        family = descendants(pid)
        if sum(_threads(member) for member in family) > self._processes:
            return f"more than {self._processes} processes"
        if self._memory_bytes is not None and self._memory_of(family) > self._memory_bytes:
            return f"more than {self._memory_bytes} bytes of memory"
        return None

    def _memory_of(self, family: Sequence[int]) -> int:
        """Return what processes take; where they may hide some of it, all that the machine has less than before."""
        taken = self._memory_before - _available_memory()
        if self._memory_bytes is not None and taken > self._memory_bytes and hides_files(family):
            return taken
        return sum(map(_memory, family)) + bytes_in_memory(family)


def descendants(pid: int) -> list[int]:
    """Return the pids of a process's children, their children and so on, itself left out."""
    children: dict[int, list[int]] = {}
    for member in pids():
        children.setdefault(_parent(member), []).append(member)
    family = list(children.get(pid, ()))
    for member in family:
        family.extend(children.get(member, ()))
    return family


def is_running(pid: int) -> bool:
    """Say whether a process is there and has not ended yet; False where there is no /proc."""
    return _stat_fields(pid)[:1] not in ([], [b"Z"], [b"X"])


def pids(folder: str = "/proc") -> Iterator[int]:
    """Yield the pids that a proc file system shows, none where there is none."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 (names alone)
    except OSError:
        return
    yield from (int(name) for name in names if name.isdecimal())


def _stat_fields(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat after the name: state, parent… (proc(5) counts them from 3)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []
    return text[text.rfind(b")") + 2 :].split()


def _parent(pid: int) -> int:
    fields = _stat_fields(pid)
    return int(fields[1]) if fields else 0


def _threads(pid: int) -> int:
    fields = _stat_fields(pid)
    return int(fields[17]) if fields else 0


def threads_of_machine() -> int:
    """Return the number of threads on this machine; 0 where there is no /proc."""
    try:
        descriptor = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fields = os.read(descriptor, 256).split()
    finally:
        os.close(descriptor)
    return int(fields[3].partition(b"/")[2])


def threads_of_user() -> int:
    """Return the number of this user's threads, as the kernel's limit of processes counts them."""
    user = os.geteuid()
    count = 0
    for pid in pids():
        with contextlib.suppress(OSError):
            count += _threads(pid) if os.stat(f"/proc/{pid}").st_uid == user else 0  # noqa: PTH116 (many)
    return count


def _free_bytes(folder: Path) -> int:
    try:
        system = os.statvfs(folder)
    except OSError:
        return 0
    return system.f_bfree * system.f_frsize


def _available_memory() -> int:
    """Return the bytes that programs could still take without swapping; 0 where there is no /proc."""
    try:
        text = Path("/proc/meminfo").read_bytes()
    except OSError:
        return 0
    found = re.search(rb"^MemAvailable: +(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _memory(pid: int) -> int:
    """Return the bytes that a process takes: its share of what is mapped (proc(5), Pss), and its files in memory."""
    try:
        found = re.search(rb"^Pss: +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_bytes(), re.MULTILINE)
        mapped = int(found[1]) * 1024 if found else 0
    except OSError:  # of another user's, or gone
        fields = _stat_fields(pid)
        mapped = int(fields[21]) * _PAGE if fields else 0
    return mapped + sum(_bytes_of_memory_file(path) for path in _open_files((pid,)))


def _bytes_of_memory_file(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512 if os.readlink(path).startswith("/memfd:") else 0  # noqa: PTH115, PTH116
    except OSError:
        return 0


def written_bytes(since: Mapping[Path, float], family: Sequence[int]) -> int | None:
    """Return the space of the files that changed: below folders since a time for each, or deleted and held open.

    None where some of it can't be seen: in a folder that is closed to us, or in the hands of a process.
    """
    closed: list[str] = []
    sizes: dict[tuple[int, int], int] = {}
    first = min(since.values(), default=0.0)
    for path, begun in (*_files_below(since, closed), *((path, first) for path in _open_files(family))):
        try:
            status = os.stat(path, follow_symlinks=path.startswith("/proc/"))  # noqa: PTH116 (many strings)
        except OSError:
            continue
        if status.st_ctime >= begun - 1:
            sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
    return None if closed or hides_files(family) else sum(sizes.values())


def _files_below(since: Mapping[Path, float], closed: list[str]) -> Iterator[tuple[str, float]]:
    """Yield files and folders; folders that can't be listed, or lie too deep, are added to `closed`."""
    for top, begun in since.items():
        folders = [str(top)]
        while folders:  # os.walk calls itself, before Python 3.12: it may be led too deep
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
            except FileNotFoundError:
                continue
            except OSError:
                closed.append(folder)
                continue
            yield from ((path, begun) for path, _ in found)
            folders += [path for path, is_folder in found if is_folder]


def _open_files(family: Sequence[int]) -> Iterator[str]:
    for pid in family:
        try:
            names = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 (names alone)
        except OSError:
            continue
        yield from (f"/proc/{pid}/fd/{name}" for name in names)
