"""Other people's words, made short and stable: the scheduler's, the container runtime's, Triton's, a program's.

Stable matters as much as short: a message that changes at every retry (a pod name in it, a back-off prefix that comes
and goes) would be a status write at every retry. Deliberately translates nothing: the words stay theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LIMIT = 700
"""Characters of one quoted text; a condition with its frame stays far below the 4096 of the schema."""
LAST_LINES = 4
"""How many of a program's last lines are shown: a Python traceback ends with its cause, Triton logs one line."""

_PREEMPTION = re.compile(r"[.,]?\s*(no new claims to deallocate,\s*)?preemption:.*$", re.DOTALL)
_RPC = re.compile(r"rpc error: code = \w+ desc = ")
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(?::\s*(?:ErrImagePull|ImageInspectError)\s*:?\s*)?')
_FLAG = re.compile(r"^ +--[a-z][-a-z0-9]+(?: <[^>\n]*>)?$", re.MULTILINE)
_REFUSED_POD = re.compile(r'pods "[^"]*" is forbidden: ')


def trimmed(message: str, limit: int = LIMIT) -> str:
    """One line of at most `limit` characters: white space runs become one blank, the middle makes room.

    Both ends are kept: errors begin with what was tried and end with why it failed.
    """
    line = " ".join(message.split())
    if len(line) <= limit:
        return line
    head = limit // 2
    return f"{line[:head].rstrip()} ... {line[-(limit - head - 5) :].lstrip()}"


def last_lines(message: str) -> str:
    """The last lines of a program's output that say something, joined into one line."""
    lines = [" ".join(line.split()) for line in message.splitlines() if line.strip()]
    return trimmed(" | ".join(lines[-LAST_LINES:]))


def is_manual(message: str) -> bool:
    """Whether a program's last output is the list of its flags, each on a line of its own."""
    return len(_FLAG.findall(message)) >= 3


def scheduler(message: str) -> str:
    """The scheduler's verdict with its numbers, without the second verdict on preemption."""
    return trimmed(_PREEMPTION.sub("", message).rstrip(". "))


def pull(message: str) -> str:
    """Why an image did not come; the same text while the kubelet tries and while it waits for the next try."""
    return trimmed(_RPC.sub("", _BACK_OFF.sub("", message.strip())))


def refusal(message: str) -> str:
    """Why the API server refused a pod, without the name that the pod would have had this time."""
    return trimmed(_REFUSED_POD.sub("", message))


def listed(names: Iterable[str], *, most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    every = list(names)
    shown = ", ".join(every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most} more"


def size(amount: float) -> str:
    """Bytes as a person says them: two figures and a binary unit, such as 3.4 GiB."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while amount >= 1024 and power < len(units) - 1:
        amount, power = amount / 1024, power + 1
    return f"{amount:.{1 if power and amount < 10 else 0}f} {units[power]}"


def counted(count: int, noun: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
