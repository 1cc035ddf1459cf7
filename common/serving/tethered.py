"""Run a program that ends when its parent does: python tethered.py PARENT PROGRAM ARGUMENT...

A program of its own, with the standard library alone, since nothing may happen between a fork and the kernel's promise.
"""

import ctypes
import os
import signal
import sys

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h; it outlives exec

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() == int(sys.argv[1]):  # else the parent ended before the promise was made
        os.execv(sys.argv[2], sys.argv[2:])
