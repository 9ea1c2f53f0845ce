import subprocess
import sys

import mtlora


def test_every_public_name_is_there() -> None:
    for name in mtlora.__all__:
        assert getattr(mtlora, name) is not None, name
    assert set(mtlora.__all__) - {"__version__"} == set(mtlora._HOMES)


def test_predict_is_the_function_whatever_was_imported_first() -> None:
    """No module may be called like a public function: importing it would hide the function."""
    modules = "mtlora.ops.preprocess, mtlora.prediction.predict, mtlora"
    script = f"import {modules}; assert callable(mtlora.predict), mtlora.predict"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stderr
