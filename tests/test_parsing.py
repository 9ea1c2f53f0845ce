"""Threads that parse at once get trees, whatever the garbage collector does meanwhile."""

import ast
import gc
import inspect
import threading
from collections.abc import Iterator

import pytest

SOURCE = inspect.getsource(ast)


@pytest.fixture
def busy_collector() -> Iterator[None]:
    """Python code in every collection, and many of them: what lets threads change places within a parse."""

    def callback(phase: str, info: dict[str, int]) -> None:
        sum(range(20))

    before = gc.get_threshold()
    gc.callbacks.append(callback)
    gc.set_threshold(50)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(callback)


def test_threads_parse_at_once(busy_collector: None) -> None:
    faults: list[str] = []

    def parse(depth: int) -> None:
        if depth:
            return parse(depth - 1)
        for _ in range(15):
            try:
                ast.parse(SOURCE)
            except SystemError as error:
                faults.append(str(error))
        return None

    threads = [threading.Thread(target=parse, args=(depth,)) for depth in (1, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert gc.isenabled()
