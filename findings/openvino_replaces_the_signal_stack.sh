#!/usr/bin/env bash
# openvino 2026.4.1: asking what the CPU can do gives the calling thread another stack for signals, of 20 KB, on processors with AMX.
#
# Guess, written down first: sigaltstack(2) belongs to the program. A library that multiplies matrices leaves it alone, as torch and
# ONNX Runtime do; without one, handlers run on the thread's own stack of megabytes.
# Seen: before the first question (or model) the thread has none (flags 2, SS_DISABLE); after it one of 20144 bytes, until
# the Core is dropped. The kernel itself needs 11,952 bytes of it for one signal (sysconf(_SC_MINSIGSTKSZ)), so a second one inside the
# first does not fit.
# Who is hurt: whoever has handlers in the process that predicts: C code that installs them with SA_ONSTACK (Python 3.11 does
# for all of its own). A loader's child that ended while another signal was handled ended our process without a word.
# Here: inference/signal_stack.py puts the thread's own stack back after the plugin is loaded; tests/inference has the check.
# Without AMX there is nothing to see, and the script says so.
set -euo pipefail
grep -qw amx_tile /proc/cpuinfo || { echo "no AMX here: nothing to see"; exit 0; }
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
command -v uv >/dev/null || { python3 -m venv "$work/tools" && "$work/tools/bin/pip" install -q uv==0.13.8; export PATH="$work/tools/bin:$PATH"; }
uv venv -q --python "${PYTHON:-3.11}" "$work/env"
uv pip install -q --python "$work/env/bin/python" openvino==2026.4.1
cd "$work" && env/bin/python -W ignore - <<'P'
import ctypes
import os
from importlib.metadata import version

import openvino as ov


class Stack(ctypes.Structure):
    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def stack() -> tuple[int, int]:
    found = Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found.flags, found.size


before = stack()
core = ov.Core()
able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # a question; it loads the plugin
after = stack()
least = os.sysconf(249)  # _SC_MINSIGSTKSZ, for which Python has no name
print("openvino", version("openvino"), "| (flags, bytes) before", before, "| after", after, "| the kernel's least", least)
assert before == (2, 0), "Python has a stack of its own for signals now"
assert "BF16" in able and after[0] == 0 and after[1] < 2 * least, "openvino behaves otherwise now"
P
