"""The `AdaSpec` of a published AdaMTL checkpoint, from its configuration and the shapes of its tensors.

Where both speak they must agree. Where the configuration is silent, the tensors decide what they can show, and the
published default holds for the rest.
"""

import re
from typing import Any

from mtlora.adamtl.quirks import Quirks
from mtlora.adamtl.spec import SHARED, AdaSpec, AdaTask, Efficiency, LayerLoss, Policy
from mtlora.vocabulary.errors import SpecError
from mtlora.vocabulary.spec import BackboneSpec
from mtlora.vocabulary.tasks import TRAITS, Task
from mtlora.weights.convert.config import Config, shown
from mtlora.weights.convert.describe import Evidence, backbone_of, tasks_of

_MUST_BE: tuple[tuple[str, Any], ...] = (
    ("MODEL.SWIN.PATCH_SIZE", 4),
    ("MODEL.SWIN.IN_CHANS", 3),
    ("MODEL.SWIN.APE", False),
    ("MODEL.SWIN.PATCH_NORM", True),
    ("MODEL.SWIN.QKV_BIAS", True),
    ("MODEL.SWIN.QK_SCALE", None),
)
_TYPES = ("swin", "ada_swin")
_PLAIN, _ADAPTIVE = _TYPES
_SELECTOR = re.compile(r"policy\.(?P<kind>blocks|tokens)\.(?P<owner>\w+)\.0\.hidden\.weight")
_DECODER = re.compile(r"decoders\.(?P<task>\w+)\.")


def describe_adamtl(evidence: Evidence) -> AdaSpec | None:
    """The spec of a checkpoint; None if there are problems, which `evidence.config.problems` then holds."""
    config = evidence.config
    config.note_unsupported(_MUST_BE)
    backbone = backbone_of(evidence)
    tasks = _tasks(evidence)
    side = config.get("DATA.IMG_SIZE", int, 0)
    if not side:
        config.problems.append("config DATA.IMG_SIZE is missing: the side of the input the model was trained for")
    channels = _decoder_channels(evidence, tasks)
    selectors = _selectors(evidence)
    if config.problems or backbone is None:
        return None
    _check_decoder_sides(config, backbone, side)
    try:
        return AdaSpec(
            backbone=backbone,
            image_size=side,
            tasks=tasks,
            **selectors,
            decoder_channels=channels,
            drop_path=config.get("MODEL.DROP_PATH_RATE", float, 0.1),
            efficiency=_efficiency(config),
            quirks=Quirks.published(),
        )
    except SpecError as error:
        config.problems.append(str(error))
        return None


def _tasks(evidence: Evidence) -> tuple[AdaTask, ...]:
    """Tasks in the configuration's order, or else in that of the decoders in the checkpoint."""
    present = dict.fromkeys(Task(m["task"]) for name in evidence.shapes if (m := _DECODER.match(name)))
    described = (_task(evidence, task) for task in tasks_of(evidence.config, present))
    return tuple(task for task in described if task is not None)


def _task(evidence: Evidence, task: Task) -> AdaTask | None:
    config, key = evidence.config, TRAITS[task].reference_key
    classifier = evidence.shapes.get(f"decoders.{task}.classify.weight", ())
    if not classifier:
        config.problems.append(f"task {task}: the configuration names it, the checkpoint has no decoder of it")
        return None
    outputs = config.get(f"TASKS_CONFIG.ALL_TASKS.NUM_OUTPUT.{key}", int, classifier[0])
    if outputs != classifier[0]:
        config.problems.append(f"task {task}: config says {outputs} outputs, the decoder has {classifier[0]}")
    try:
        return AdaTask(task=task, outputs=classifier[0])
    except SpecError as error:
        config.problems.append(str(error))
        return None


def _decoder_channels(evidence: Evidence, tasks: tuple[AdaTask, ...]) -> int:
    """Width d, half of DECODER_DIM."""
    config, path = evidence.config, "MODEL.SWIN.DECODER_DIM"
    seen = next((s[0] for t in tasks if (s := evidence.shapes.get(f"decoders.{t.task}.mix.weight"))), 0)
    said = config.get(path, int, 2 * seen)
    if said // 2 != seen:
        config.problems.append(f"config {path} says {said}, so decoders {said // 2} wide; the tensors have {seen}")
    return seen


def _check_decoder_sides(config: Config, backbone: BackboneSpec, side: int) -> None:
    """The published list of sides is the wrong way round, coarsest first."""
    path = "MODEL.SWIN.DECODER_PATCH_RES"
    said, expected = config.per_stage(path, int), backbone.feature_sides(side)[::-1]
    if said is not None and said != expected:
        config.problems.append(
            f"config {path} says {list(said)}, an input of {side} px has features of {list(expected)}"
        )


def _selectors(evidence: Evidence) -> dict[str, Any]:
    """Fields of the spec about policies."""
    config = evidence.config
    found = [m for name in evidence.shapes if (m := _SELECTOR.fullmatch(name))]
    kinds, owners = {m["kind"] for m in found}, {m["owner"] for m in found}
    model = config.get("MODEL.TYPE", str, _ADAPTIVE if found else _PLAIN)
    if model not in _TYPES:
        config.problems.append(f"config MODEL.TYPE: {shown(model)} is not supported, only {' and '.join(_TYPES)}")
    seen_policy = Policy.PER_TASK if owners - {SHARED} else Policy.SINGLE
    policy = config.get("TRAIN.POLICY", str, seen_policy.value)
    if policy not in list(Policy):
        config.problems.append(f"config TRAIN.POLICY: {shown(policy)} is none of {', '.join(Policy)}")
        policy = seen_policy.value
    adaptive_model = model == _ADAPTIVE
    return {
        "policy": Policy(policy),
        "adaptive": adaptive_model and config.get("TRAIN.ADAPTIVE", bool, False),
        "ada_blocks": adaptive_model and config.get("TRAIN.ADA_BLOCKS", bool, "blocks" in kinds),
        "ada_tokens": adaptive_model and config.get("TRAIN.ADA_TOKENS", bool, "tokens" in kinds),
        "hard": config.get("TRAIN.HARD_GUMBEL", bool, True),
        "block_hidden": _hidden(evidence, "blocks", "TRAIN.BLOCK_CONTROLLER_DIM"),
        "token_hidden": _hidden(evidence, "tokens", "TRAIN.TOKEN_CONTROLLER_DIM"),
    }


def _hidden(evidence: Evidence, kind: str, path: str) -> int:
    matches = ((m, shape) for name, shape in evidence.shapes.items() if (m := _SELECTOR.fullmatch(name)))
    seen = next((shape[0] for m, shape in matches if m["kind"] == kind and shape), 100)
    return evidence.config.get(path, int, seen)


def _efficiency(config: Config) -> Efficiency:
    layers = LayerLoss.PLAIN
    if config.get("TRAIN.PER_LAYER_EFFICIENCY_LOSS", bool, False):
        layers = LayerLoss.PER_LAYER
    if config.get("TRAIN.MIXED_PER_LAYER_EFFICIENCY_LOSS", bool, False):
        layers = LayerLoss.MIXED
    return Efficiency(
        weight=config.get("TRAIN.EFFICIENCY_WEIGHT", float, 1.0),
        tokens_target=config.get("TRAIN.TOKENS_EFFICIENCY_TARGET", float, 0.5),
        blocks_target=config.get("TRAIN.BLOCKS_EFFICIENCY_TARGET", float, 0.9),
        overlap_weight=config.get("TRAIN.PERTASK_OVERLAP_WEIGHT", float, 0.0),
        layers=layers,
        weighted=config.get("TRAIN.WEIGHTED_TOKENS_LOSS", bool, False),
    )
