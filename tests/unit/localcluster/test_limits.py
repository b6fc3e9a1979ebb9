"""What a node needs of the kernel: refused in one line that holds the remedy."""

from pathlib import Path

import pytest

from localcluster import limits
from localcluster.report import Refusal


def _machine(root: Path, *, allowed: str, used: int) -> tuple[Path, Path]:
    limit = root / "max_user_instances"
    limit.write_text(allowed)
    descriptors = root / "proc" / "4711" / "fd"
    descriptors.mkdir(parents=True)
    for number in range(used):
        (descriptors / f"{number}").symlink_to("anon_inode:inotify")
    (descriptors / "900").symlink_to("/dev/null")
    (root / "proc" / "version").write_text("Linux")
    return limit, root / "proc"


def test_a_machine_with_room_is_accepted(tmp_path: Path) -> None:
    limits.check(*_machine(tmp_path, allowed="128\n", used=104))


def test_a_node_that_would_find_no_instance_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"105 of 128 inotify .*: `sysctl -w fs.inotify.max_user_instances=512`"):
        limits.check(*_machine(tmp_path, allowed="128\n", used=105))


def test_a_kernel_that_does_not_tell_is_believed(tmp_path: Path) -> None:
    limits.check(tmp_path / "missing", tmp_path)


def test_this_machine_is_read() -> None:
    limits.check(processes=Path("/proc/self/task"))
