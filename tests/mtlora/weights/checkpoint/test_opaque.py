"""Which names of a pickle may stand for objects that are never made."""

import pytest

from mtlora.weights.checkpoint.opaque import Global, Opaque, is_opaque_class, is_opaque_function


@pytest.mark.parametrize(
    ("module", "name"), [("argparse", "Namespace"), ("pathlib", "PosixPath"), ("their.lib", "Outer._Mode")]
)
def test_classes_of_harmless_objects_are_opaque(module: str, name: str) -> None:
    assert is_opaque_class(Global(module, name))


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("their.lib", "run")]
)
def test_what_could_act_is_neither_class_nor_function(module: str, name: str) -> None:
    assert not is_opaque_class(Global(module, name))
    assert not is_opaque_function(Global(module, name))


def test_an_opaque_object_is_a_key_like_no_other() -> None:
    kind = Global("their.lib", "Mode")
    assert len({Opaque(kind): 1, Opaque(kind): 2}) == 2
