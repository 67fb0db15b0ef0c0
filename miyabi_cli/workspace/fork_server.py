"""A small process without threads that forks one process for each command: a start of Python for all, not for each.

It is started with nothing in its environment and gives up every right at once, so it holds no secret. It is reached by
one unnamed socket alone, and ends with the one at the other end. Of a command it is sent two descriptors: the control
socket that `confined` speaks on, and the command's output. Imports nothing but `confined`.
"""

from __future__ import annotations

import array
import gc
import os
import select
import socket
from typing import NoReturn

from miyabi_cli.workspace import confined

_WORD = array.array("i").itemsize


def serve(requests: int) -> NoReturn:
    """Fork until the other end of the socket is closed."""
    os.set_inheritable(requests, False)
    confined.give_up_rights()
    changes = confined.children_changed()
    running: dict[int, int] = {}  # the process of each command, and a copy of its control socket
    connection = socket.socket(fileno=requests)
    poll = select.poll()
    for descriptor in (requests, changes):
        poll.register(descriptor, select.POLLIN)
    gc.freeze()  # so that a fork copies less
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if changes in ready:
            os.read(changes, 4096)
            _reap(running)
        if requests in ready:
            _fork(*_received(connection), running=running, ours=(requests, changes))


def _received(connection: socket.socket) -> tuple[int, int]:
    """Return the descriptors of a command; exits where there will be no more."""
    try:
        data, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(2 * _WORD))
    except OSError:
        data = b""
    if not data:
        os._exit(0)
    words = array.array("i")
    for _, _, raw in ancillary:
        words.frombytes(raw[: len(raw) // _WORD * _WORD])
    control, output = words
    return control, output


def _fork(control: int, output: int, *, running: dict[int, int], ours: tuple[int, ...]) -> None:
    os.set_inheritable(control, False)
    try:
        pid = os.fork()
    except OSError as error:
        os.write(control, f"failed {error.strerror}\n".encode())
        os.close(control)
    else:
        if pid == 0:
            _become_keeper(control, output, (*running.values(), *ours))
        running[pid] = control
    os.close(output)


def _become_keeper(control: int, output: int, others: tuple[int, ...]) -> NoReturn:
    try:
        for descriptor in others:
            os.close(descriptor)
        os.setsid()
        for standard in (1, 2):
            os.dup2(output, standard)
        os.close(output)
        confined.run(control)
    finally:
        os._exit(1)


def _reap(running: dict[int, int]) -> None:
    """Forget the commands that have ended. What one leaves behind that was killed itself falls to us, and is ended.

    Its control socket is closed last, so that whoever waits knows that nothing of the command is left.
    """
    ended = []
    was_killed = False
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        if pid in running:
            was_killed = was_killed or status != 0
            ended.append(running.pop(pid))
    if was_killed:
        _end_orphans(running)
    for control in ended:
        os.close(control)


def _end_orphans(running: dict[int, int]) -> None:
    while orphans := [pid for pid in confined.children() if pid not in running]:
        for pid in orphans:
            confined.kill(pid)
            os.waitpid(pid, 0)
