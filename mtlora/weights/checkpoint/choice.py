"""The sets of weights that a checkpoint holds, and the choice of one: a moving average may stand beside the model."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtlora.vocabulary.errors import ConversionError
from mtlora.vocabulary.shown import shown
from mtlora.weights.checkpoint.container import Checkpoint
from mtlora.weights.checkpoint.globals_allowed import TensorRef
from mtlora.weights.checkpoint.opaque import Opaque
from mtlora.weights.checkpoint.wrappers import unwrapped

Tell = Callable[[str], None]

TOP = "."
"""How the weights at the top of a file are called."""

_USUAL = ("model", "state_dict", "model_state_dict", TOP)
_CONFIG_KEYS = ("config", "cfg")
_MAX_DEPTH = 4
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|rng|random|loss|^amp$", re.IGNORECASE)
_AVERAGE = re.compile(r"(?:^|[._])(?:ema|swa|averaged?|shadow|teacher|momentum)(?:[._]|$)|modelema", re.IGNORECASE)
_SIGNS = (
    "patch_embed.proj.weight",  # official and timm
    "embeddings.patch_embeddings.projection.weight",  # Transformers
    "patch_embed.projection.weight",  # OpenMMLab
    "features.1.0.attn.relative_position_bias_table",  # torchvision
)
"""A Swin encoder has one of these; what stands before it is the encoder's roof."""


@dataclass(frozen=True, slots=True)
class WeightSet:
    """One set of weights.

    name:    path within the file, as `model_ema` or `model.teacher.backbone`
    roof:    what stands before each name of the encoder, with a dot at its end; empty where nothing does
    tensors: {name without wrappers: tensor} of the dictionary that holds the set
    beside:  roofs of other encoders in the same dictionary
    """

    name: str
    roof: str
    tensors: dict[str, TensorRef]
    beside: tuple[str, ...] = ()

    def encoder(self) -> dict[str, TensorRef]:
        """The encoder's tensors, without the roof."""
        return self._under(self.roof, self.beside)

    def model(self) -> dict[str, TensorRef]:
        """All tensors of the model whose `backbone` the encoder is, named as the published code does."""
        return self._under(_above(self.roof), tuple(map(_above, self.beside)))

    def _under(self, roof: str, beside: tuple[str, ...]) -> dict[str, TensorRef]:
        inner = tuple(other for other in beside if other != roof and other.startswith(roof))
        return {
            key.removeprefix(roof): ref
            for key, ref in self.tensors.items()
            if key.startswith(roof) and not key.startswith(inner)
        }


def _above(roof: str) -> str:
    return roof.removesuffix("backbone.")


@dataclass(frozen=True, slots=True)
class Choice:
    """The set that was taken, and names of the others that could have been."""

    taken: WeightSet
    others: tuple[str, ...]
    config: Mapping[str, Any]


def no_word(_: str) -> None:
    """Nobody listens."""


def choose(checkpoint: Checkpoint, weights: str = "", tell: Tell = no_word) -> Choice:
    """The set called `weights`, or by default the model's own; `ConversionError` lists the names if it is not clear.

    tell: gets a line that says what was taken, where there was a choice
    """
    document, file = checkpoint.document, shown(checkpoint.path.name)
    if isinstance(document, Opaque) or not isinstance(document, dict):
        kind = document.kind if isinstance(document, Opaque) else f"a {type(document).__name__}"
        raise ConversionError(f"{file} holds {shown(str(kind))}, a checkpoint is a dictionary: save its state_dict()")
    sets = weight_sets(document)
    encoders = [found for found in sets if _has_encoder(found)]
    known = encoders or sets
    if not known:
        raise ConversionError(f"{file} holds no state dict, neither at the top nor under a key{_modules(document)}")
    taken = _named(known, weights, file) if weights else _usual(known, file)
    if not encoders and taken.name == TOP:
        _only_tensors(document, file)
    others = tuple(found.name for found in encoders if found is not taken)
    if others:
        more = ", ".join(map(shown, others))
        tell(f"{file}: weights of {shown(taken.name)} are taken; --weights takes another of its sets: {more}")
    return Choice(taken, others, _config(document))


def _only_tensors(document: Mapping[Any, Any], file: str) -> None:
    others = [shown(key, 80) for key, value in document.items() if not isinstance(value, TensorRef)]
    if others:
        raise ConversionError(f"{file}: its state dict holds more than tensors, and no Swin encoder", others)


def weight_sets(document: Mapping[Any, Any]) -> list[WeightSet]:
    """Every set of weights in a file, those at the top first."""
    return [found for path, state in _states(document) for found in _sets_of(path, unwrapped(state))]


def _states(document: Mapping[Any, Any]) -> Iterator[tuple[str, dict[str, TensorRef]]]:
    """Dictionaries that hold tensors by name, and where they are; each once, though a file may nest it in many."""
    waiting: deque[tuple[tuple[str, ...], Mapping[Any, Any]]] = deque([((), document)])
    seen = {id(document)}
    while waiting:
        path, node = waiting.popleft()
        tensors = {key: ref for key, ref in node.items() if isinstance(key, str) and isinstance(ref, TensorRef)}
        if tensors:
            yield ".".join(path) or TOP, tensors
        for key, value in node.items() if len(path) < _MAX_DEPTH else ():
            named = isinstance(key, str) and not _NO_WEIGHTS.search(key)
            if named and isinstance(value, dict) and id(value) not in seen:
                seen.add(id(value))
                waiting.append(((*path, key), value))


def _sets_of(path: str, tensors: dict[str, TensorRef]) -> Iterator[WeightSet]:
    roofs = sorted({key.removesuffix(sign) for key in tensors for sign in _SIGNS if f".{key}".endswith(f".{sign}")})
    if len(roofs) < 2:
        yield WeightSet(path, roofs[0] if roofs else "", tensors)
        return
    for roof in roofs:
        parts = [part for part in (path, roof.removesuffix(".")) if part not in {"", TOP}]
        yield WeightSet(".".join(parts) or TOP, roof, tensors, tuple(roofs))


def _has_encoder(found: WeightSet) -> bool:
    return any(found.roof + sign in found.tensors for sign in _SIGNS)


def _named(sets: Sequence[WeightSet], weights: str, file: str) -> WeightSet:
    for fits in (
        [found for found in sets if found.name == weights],
        [found for found in sets if found.name.startswith(f"{weights}.")],
        [found for found in sets if found.name.endswith(f".{weights}")],
    ):
        if fits:
            return fits[0] if len(fits) == 1 else _usual(fits, file)
    raise ConversionError(f"{file} holds no weights called {shown(weights)}; --weights takes one of {_names(sets)}")


def _usual(sets: Sequence[WeightSet], file: str) -> WeightSet:
    """The model's own weights, where they can be told from moving averages and teachers."""
    own = [found for found in sets if not _AVERAGE.search(found.name)]
    for name in _USUAL:
        fits = [found for found in own if found.name == name]
        if fits:
            return fits[0]
    if len(own) == 1:
        return own[0]
    if len(sets) == 1:
        name = shown(sets[0].name)
        raise ConversionError(f"{file} holds no model's own weights, only {name}: --weights {name} takes them")
    raise ConversionError(f"{file} holds several sets of weights; choose with --weights: {_names(sets)}")


def _names(sets: Sequence[WeightSet]) -> str:
    return ", ".join(shown(found.name) for found in sets)


def _config(document: Mapping[Any, Any]) -> Mapping[str, Any]:
    found = (document.get(key) for key in _CONFIG_KEYS)
    return next((config for config in found if isinstance(config, dict) and config), {})


def _modules(document: Mapping[Any, Any]) -> str:
    """Hint for files that hold a whole model instead of its weights."""
    whole = [str(key) for key, value in document.items() if isinstance(value, Opaque) and value.attributes]
    modules = [key for key in whole if "_modules" in (document[key].attributes or {})]
    return f"; {shown(modules[0])} is a whole model: save its state_dict()" if modules else ""
