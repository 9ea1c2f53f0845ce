"""`ast.parse` that threads may call at once, where Python's own is broken.

CPython before 3.11.8 counts the depth of all syntax trees under construction in one place (gh-106905). When the garbage
collector runs Python code in the middle of one (hypothesis has a callback there), another thread, or that code, may
begin a second tree, and the first ends with `SystemError: AST constructor recursion depth mismatch`. Here two threads
do: hypothesis parses sources for their constants and lambdas, a server in a thread parses lines to format tracebacks.
"""

import ast
import gc
import sys
import threading
from typing import Any

FIXED_IN = (3, 11, 8)


def guard_parsing() -> None:
    """From now on trees are made one after the other, and without garbage collection. Nothing where Python is sound."""
    if sys.version_info >= FIXED_IN or hasattr(ast.parse, "unguarded"):
        return
    unguarded, lock = ast.parse, threading.RLock()

    def parse(*args: Any, **kwargs: Any) -> Any:
        with lock:
            enabled = gc.isenabled()
            gc.disable()
            try:
                return unguarded(*args, **kwargs)
            finally:
                if enabled:
                    gc.enable()

    parse.unguarded = unguarded  # type: ignore[attr-defined]
    ast.parse = parse
