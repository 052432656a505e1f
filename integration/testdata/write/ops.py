"""System calls that the shell has no command for, for the write tests."""

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import random
import sys

libc = ctypes.CDLL(None, use_errno=True)
KEEP, PUNCH, ZERO = 1, 2, 16
NOREPLACE, EXCHANGE = 1, 2


def _check(r):
    if r < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return r


def rename2(a, b, flags):
    _check(libc.renameat2(-100, a.encode(), -100, b.encode(), ctypes.c_uint(flags)))


def fallocate(fd, mode, off, n):
    _check(libc.fallocate(fd, mode, ctypes.c_long(off), ctypes.c_long(n)))


def linkfd(fd, path):
    """Give a file made with O_TMPFILE a name."""
    _check(libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, path.encode(), 0x400))


def noise(seed, n):
    return random.Random(seed).randbytes(n)


def sha(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()[:16]


def show(*paths):
    for p in paths:
        s = os.stat(p)
        print(p, s.st_size, sha(p))


def tried(f, *a):
    """Print how a call ended."""
    try:
        f(*a)
        print(f.__name__, "ok")
    except OSError as e:
        print(f.__name__, errno.errorcode[e.errno])
