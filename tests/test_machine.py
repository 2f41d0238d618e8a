import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from stillhouse import machine
from stillhouse.errors import UserError


def test_a_lock_is_held_once_and_free_again_when_it_is_closed(tmp_path: Path) -> None:
    with (
        machine.hold(tmp_path / "folder" / "running"),
        pytest.raises(UserError, match=r"running: another run is working in this folder\. Wait"),
    ):
        machine.hold(tmp_path / "folder" / "running")
    machine.hold(tmp_path / "folder" / "running").close()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    script = f"""
import pathlib, time
from stillhouse import machine
file = machine.hold(pathlib.Path({str(tmp_path / "running")!r}))
print("held", flush=True)
time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError):
        machine.hold(tmp_path / "running")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    machine.hold(tmp_path / "running").close()


def test_gpus_are_counted() -> None:
    assert machine.gpus() == len([p for p in Path("/dev").iterdir() if p.name.removeprefix("nvidia").isdecimal()])


ROUNDS = """
import ctypes, resource, sys
from stillhouse import machine

if sys.argv[1] == "keep":
    machine.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes, libc.memset.argtypes = (
    ctypes.c_void_p, [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t],
)
size = 16 << 20


def touch():
    held = [libc.malloc(size) for _ in range(8)]
    for each in held:
        libc.memset(each, 1, size)
    for each in held:
        libc.free(each)


touch()
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_memory_that_is_kept_costs_no_page_faults_when_it_is_used_again() -> None:
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", ROUNDS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "give back")
    )
    assert kept < 100 < 1000 < given_back
