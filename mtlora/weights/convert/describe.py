"""The `AdapterSpec` of a published checkpoint, from its configuration and the shapes of its tensors.

What the tensors show, they decide (widths, ranks, windows, outputs); what they cannot show (scalings, mode, input side,
what was frozen) the configuration must say. Where both speak, they must agree.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from mtlora.vocabulary.adapted_linears import adapted_linears, place_of_lora_a
from mtlora.vocabulary.errors import SpecError, TaskError
from mtlora.vocabulary.model_shapes import Shapes
from mtlora.vocabulary.spec import (
    AdapterSpec,
    BackboneSpec,
    ClassSpec,
    DecoderKind,
    PerStage,
    PerStageFloat,
    SharedMode,
    TaskSpec,
    palette_classes,
)
from mtlora.vocabulary.tasks import HUMAN_PARTS_CLASSES, TRAITS, VOC_CLASSES, Task, task_of_reference_key
from mtlora.weights.convert.config import Config, shown

NYUD_CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refrigerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "other structure", "other furniture", "other prop",
)  # fmt: skip
"""The 40 classes of NYUD-v2; there is no background among them."""

_KNOWN_CLASSES = {
    (Task.SEMSEG, len(VOC_CLASSES)): VOC_CLASSES,
    (Task.SEMSEG, len(NYUD_CLASSES)): NYUD_CLASSES,
    (Task.HUMAN_PARTS, len(HUMAN_PARTS_CLASSES)): HUMAN_PARTS_CLASSES,
}
_KNOWN_ENCODERS = {
    (96, (2, 2, 6, 2)): "swin_tiny",
    (96, (2, 2, 18, 2)): "swin_small",
    (128, (2, 2, 18, 2)): "swin_base",
    (192, (2, 2, 18, 2)): "swin_large",
}
_MTLORA = "MODEL.MTLORA"
_BLOCK = re.compile(r"backbone\.layers\.(\d+)\.blocks\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a checkpoint: its configuration, and its tensors' shapes under our names."""

    config: Config
    shapes: Shapes


def describe(evidence: Evidence) -> AdapterSpec | None:
    """The spec of the whole checkpoint; None if there are problems, which `evidence.config.problems` then holds."""
    config = evidence.config
    config.note_unsupported()
    backbone = backbone_of(evidence)
    tasks = _tasks(evidence)
    shared = _ranks(evidence, "shared", f"{_MTLORA}.R_PER_TASK.shared", f"{_MTLORA}.R")
    described = tuple(t for t in (_task(evidence, task, shared) for task in tasks) if t is not None)
    scaling = _scaling(config, f"{_MTLORA}.SHARED_SCALE")
    side = config.get("DATA.IMG_SIZE", int, 0)
    if not side:
        config.problems.append("config DATA.IMG_SIZE is missing: the side of the input the model was trained for")
    mode = _mode(config)
    channels = config.per_stage("MODEL.DECODER_CHANNELS", int) or _channels(evidence)
    if config.problems or backbone is None or scaling is None or mode is None or channels is None:
        return None
    try:
        spec = AdapterSpec(
            backbone=backbone,
            image_size=side,
            tasks=described,
            mode=mode,
            ranks=shared,
            scaling=scaling,
            dropout=config.per_stage(f"{_MTLORA}.DROPOUT", float) or (0.05, 0.05, 0.05, 0.05),
            decoder_channels=channels,
            segformer_channels=config.get("MODEL.SEGFORMER_CHANNELS", int, 256),
            **_switches(config),
        )
        return _with_ranks_by_linear(evidence, spec)
    except SpecError as error:
        config.problems.append(str(error))
        return None


def _switches(config: Config) -> dict[str, bool]:
    return {
        "learned_scaling": config.get(f"{_MTLORA}.TRAINABLE_SCALE_SHARED", bool, False),
        "learned_task_scaling": config.get(f"{_MTLORA}.TRAINABLE_SCALE_PER_TASK", bool, False),
        "adapt_qkv": config.get(f"{_MTLORA}.QKV_ENABLED", bool, True),
        "adapt_proj": config.get(f"{_MTLORA}.PROJ_ENABLED", bool, True),
        "adapt_fc1": config.get(f"{_MTLORA}.FC1_ENABLED", bool, True),
        "adapt_fc2": config.get(f"{_MTLORA}.FC2_ENABLED", bool, True),
        "adapt_reduction": config.get(f"{_MTLORA}.DOWNSAMPLER_ENABLED", bool, False),
        "intermediate_specialization": config.get(f"{_MTLORA}.INTERMEDIATE_SPECIALIZATION", bool, False),
        "train_patch_embed": not config.get("TRAIN.FREEZE_PATCH_EMBED", bool, False),
        "train_layer_norm": not config.get("TRAIN.FREEZE_LAYER_NORM", bool, False),
        "train_position_bias": not config.get("TRAIN.FREEZE_RELATIVE_POSITION_BIAS", bool, False),
        "train_reduction": not config.get("TRAIN.FREEZE_DOWNSAMPLE_REDUCTION", bool, False),
    }


def _mode(config: Config) -> SharedMode | None:
    value = config.get(f"{_MTLORA}.SHARED_MODE", str, SharedMode.MATRIX)
    known = {mode.value: mode for mode in SharedMode} | {"add": SharedMode.ADDITION}
    if value not in known:
        config.problems.append(f"config {_MTLORA}.SHARED_MODE: unknown mode {shown(value)}, known: {', '.join(known)}")
    return known.get(value)


def backbone_of(evidence: Evidence) -> BackboneSpec | None:
    """Shape of the encoder, read off its tensors where the configuration is silent."""
    config, shapes, swin = evidence.config, evidence.shapes, "MODEL.SWIN"
    try:
        width = shapes["backbone.patch_embed.proj.weight"][0]
        blocks = [{int(m[2]) for name in shapes if (m := _BLOCK.match(name)) and int(m[1]) == i} for i in range(4)]
        tables = [shapes[f"backbone.layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in range(4)]
        hidden = shapes["backbone.layers.0.blocks.0.mlp.fc1.weight"][0]
        heads = cast("PerStage", tuple(table[1] for table in tables))
        window = max((math.isqrt(table[0]) + 1) // 2 for table in tables)
    except (KeyError, IndexError):
        config.problems.append("the tensors are not those of a Swin encoder of four stages")
        return None
    seen = {"EMBED_DIM": width, "DEPTHS": tuple(len(b) for b in blocks), "NUM_HEADS": heads}
    for name, value in seen.items():
        path = f"{swin}.{name}"
        said = config.get(path, int, width) if name == "EMBED_DIM" else config.per_stage(path, int) or value
        if said != value:
            config.problems.append(f"config {path} says {said}, the tensors have {value}")
    depths = cast("PerStage", seen["DEPTHS"])
    name = _KNOWN_ENCODERS.get((width, depths), f"swin_{width}_{'-'.join(map(str, depths))}")
    try:
        return BackboneSpec(
            name=name,
            embed_dim=width,
            depths=depths,
            num_heads=heads,
            window_size=config.get(f"{swin}.WINDOW_SIZE", int, window),
            mlp_ratio=config.get(f"{swin}.MLP_RATIO", float, hidden / width),
        )
    except SpecError as error:
        config.problems.append(str(error))
        return None


def _tasks(evidence: Evidence) -> tuple[Task, ...]:
    present = (task for task in Task if any(name.startswith(f"decoders.{task}.") for name in evidence.shapes))
    return tasks_of(evidence.config, present)


def tasks_of(config: Config, present: Iterable[Task]) -> tuple[Task, ...]:
    """Tasks in the configuration's order, or else those that have a decoder; problems are added to its own."""
    found = []
    for key in config.names("TASKS"):
        try:
            found.append(task_of_reference_key(key))
        except TaskError as error:
            config.problems.append(f"config TASKS: {error}")
    tasks = tuple(found or present)
    if not tasks:
        config.problems.append("no tasks: neither in the configuration nor as decoders among the tensors")
    return tasks


def _task(evidence: Evidence, task: Task, shared: PerStage) -> TaskSpec | None:
    config, key = evidence.config, TRAITS[task].reference_key
    ranks = _ranks(evidence, f"tasks.{task}", f"{_MTLORA}.R_PER_TASK.{key}", fallback=shared)
    scaling = _scaling(config, f"{_MTLORA}.SCALE_PER_TASK.{key}", f"{_MTLORA}.TASK_SCALE")
    head = config.get(f"MODEL.DECODER_HEAD.{key}", str, DecoderKind.HRNET)
    if head not in list(DecoderKind):
        config.problems.append(f"config MODEL.DECODER_HEAD.{key}: {shown(head)} is not supported")
        return None
    classifier = evidence.shapes.get(f"decoders.{task}.classify.weight", ())
    outputs = config.get(f"TASKS_CONFIG.ALL_TASKS.NUM_OUTPUT.{key}", int, classifier[0] if classifier else 0)
    if classifier and outputs != classifier[0]:
        config.problems.append(
            f"task {task}: the configuration says {outputs} outputs, the decoder has {classifier[0]}"
        )
    if scaling is None:
        return None
    try:
        spec = TaskSpec.make(
            task, classes=classes_of(task, outputs), ranks=ranks, scaling=scaling, decoder=DecoderKind(head)
        )
    except SpecError as error:
        config.problems.append(f"task {task}: {error}")
        return None
    return spec.model_copy(update={"axes": ""})


def classes_of(task: Task, outputs: int) -> tuple[ClassSpec, ...]:
    """Names and colours for so many outputs: the field's where it has some, else `class 0`, `class 1`, …"""
    if TRAITS[task].outputs is not None:
        return ()
    names = _KNOWN_CLASSES.get((task, outputs), tuple(f"class {index}" for index in range(outputs)))
    return palette_classes(names)


def _ranks(evidence: Evidence, owner: str, *paths: str, fallback: PerStage | None = None) -> PerStage:
    """Ranks of a pair in the four stages, from the first path that says something; the tensors must agree.

    Where the pairs of a stage differ, the tensors decide linear by linear: see `_with_ranks_by_linear`.
    """
    config = evidence.config
    said = next((found for found in (config.per_stage(path, int) for path in paths) if found is not None), fallback)
    ranks = list(said or (0, 0, 0, 0))
    for stage, seen in _seen_ranks(evidence.shapes, owner).items():
        if said is None:
            ranks[stage] = max(seen)
        if len(seen) == 1 and seen != {ranks[stage]}:
            (held,) = seen
            config.problems.append(
                f"{owner} rank of stage {stage}: config says {ranks[stage]}, the tensors have {held}"
            )
    a, b, c, d = ranks
    return a, b, c, d


def _with_ranks_by_linear(evidence: Evidence, spec: AdapterSpec) -> AdapterSpec:
    """The spec with the ranks of single linears, where pairs of one stage differ; a pair that is not there has rank 0.

    Where every stage has one rank, a pair that is not there is a fault of the checkpoint instead.
    """
    owners = {"shared": spec.ranks} | {f"tasks.{task.task}": task.ranks for task in spec.tasks}
    if not any(len(seen) > 1 for owner in owners for seen in _seen_ranks(evidence.shapes, owner).values()):
        return spec
    found: dict[str, dict[str, int]] = {owner: {} for owner in owners}
    for linear in adapted_linears(spec):
        for pair in linear.pairs:
            owner = pair.name.removeprefix(f"{linear.prefix}.")
            rank = next(iter(evidence.shapes.get(f"{pair.name}.lora_a", ())), 0)
            if rank != pair.rank:
                found[owner][linear.name] = rank
    tasks = tuple(TaskSpec(**{**dict(t), "linear_ranks": found[f"tasks.{t.task}"]}) for t in spec.tasks)
    return AdapterSpec(**{**dict(spec), "tasks": tasks, "linear_ranks": found["shared"]})


def _seen_ranks(shapes: Mapping[str, tuple[int, ...]], owner: str) -> dict[int, set[int]]:
    """Ranks that the pairs of one owner have, by stage."""
    found: dict[int, set[int]] = {}
    for name, shape in shapes.items():
        place = place_of_lora_a(name)
        if place and place.owner == owner and shape:
            found.setdefault(place.stage, set()).add(shape[0])
    return {stage: ranks for stage, ranks in found.items() if 0 <= stage < 4}


def _scaling(config: Config, *paths: str) -> PerStageFloat | None:
    for path in paths:
        if (value := config.per_stage(path, float)) is not None:
            return value
    config.problems.append(f"config {' or '.join(paths)} is missing: the tensors do not hold the scaling")
    return None


def _channels(evidence: Evidence) -> PerStage | None:
    """Channels of the projections, from any task's tensors."""
    task = next((t for t in Task if f"projections.{t}.0.weight" in evidence.shapes), None)
    shapes = [evidence.shapes.get(f"projections.{task}.{scale}.weight", ()) for scale in range(4)]
    if not all(shapes):
        evidence.config.problems.append("config MODEL.DECODER_CHANNELS is missing, and so are the projections")
        return None
    return cast("PerStage", tuple(shape[0] for shape in shapes))
