"""The command `mtlora train`; see docs/training.md."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mtlora.cli import options as o
from mtlora.cli.option_groups import with_options
from mtlora.cli.say import say
from mtlora.cli.train_options import KEEP, PolicyOptions, TrainOptions, ValidationOptions
from mtlora.cli.train_recipe import choose
from mtlora.training.adapters.recipe import Recipe
from mtlora.training.run.machine import prepare_process
from mtlora.vocabulary.errors import TrainingError

if TYPE_CHECKING:
    from mtlora.data.records import PhotoDataset
    from mtlora.training.adapters.config import PolicyTraining, TrainConfig, Validation
    from mtlora.training.adapters.methods import Method
    from mtlora.training.run.loop import LoopConfig
    from mtlora.vocabulary.spec import AdapterSpec
    from mtlora.vocabulary.tasks import Task

_INTERRUPTED = 130
_GO_ON = "stopped; the same command with --resume goes on from the last checkpoint"
_BEGIN_AGAIN = "stopped before the first checkpoint: the same command begins again; --save-every 20 keeps one sooner"


@with_options
def train(options: TrainOptions) -> None:
    """Train an adapter set on a frozen backbone; writes OUT/adapter.safetensors and OUT/report.html."""
    prepare_process()
    config = make_config(options, say_err)
    if options.dry_run:
        _dry_run(config, options.resume)
    else:
        _run(config, options.resume)


def say_err(line: str) -> None:
    """Print a line beside the command's output."""
    say(line, err=True)


def make_config(options: TrainOptions, tell: Callable[[str], None] = lambda _line: None) -> "TrainConfig":
    """The settings of a run from the command's options; the recipe and doubts about it are told."""
    from mtlora.data.augment import AugmentConfig
    from mtlora.data.layout import open_dataset
    from mtlora.training.adapters.config import TrainConfig
    from mtlora.training.adapters.methods import Method, unfreeze_for
    from mtlora.weights.bundled import find_backbone

    made, schedule, teacher = options.set, options.schedule, options.teacher
    dataset = open_dataset(made.data, made.split).spread(schedule.photos)
    choice = choose(options, dataset)
    recipe = choice.recipe
    path = find_backbone(made.backbone)
    method = o.member(Method, made.method, "method")
    loop = _loop(recipe, options)
    config = TrainConfig(
        spec=_spec(path, dataset, method, options),
        backbone=path,
        data=made.data,
        out=made.out,
        cache=options.run.cache,
        loop=loop,
        name=made.name,
        method=method.value,
        unfreeze=unfreeze_for(method),
        split=made.split,
        photos=schedule.photos,
        init=schedule.init,
        image_side=recipe.image_side,
        batch=recipe.batch,
        accumulate=schedule.accumulate,
        recompute=schedule.recompute,
        processes=recipe.processes,
        weight_decay=schedule.weight_decay,
        drop_path=recipe.drop_path,
        label_stride=recipe.label_stride,
        task_weights=o.task_weights(options.loss.loss_weights),
        class_balance=recipe.class_balance,
        augment=AugmentConfig(jitter=recipe.jitter, rotate_deg=recipe.rotate, scale=o.zoom_range(recipe.zoom)),
        teacher=teacher.teacher,
        teacher_backbone=teacher.teacher_backbone,
        soft_labels=teacher.soft_labels,
        distill=teacher.distill,
        temperature=teacher.temperature,
        validation=_validation(recipe, options.validation),
        policy=_policy(options.policy, schedule.init, loop.steps),
        report_photos=options.validation.report_photos,
        recipe=choice.record,
    )
    for line in (choice.line, *(f"warning: {doubt}" for doubt in choice.doubts)):
        tell(line)
    return config


def _spec(backbone: Path, dataset: "PhotoDataset", method: "Method", options: TrainOptions) -> "AdapterSpec":
    from mtlora.training.adapters.methods import spec_for
    from mtlora.vocabulary.spec import AdapterSpec
    from mtlora.weights.backbone import load_backbone

    made, shape = options.set, options.shape
    spec = AdapterSpec(
        backbone=load_backbone(backbone).spec,
        image_size=shape.image_size,
        tasks=o.task_specs(made.tasks, made.semseg_classes, shape.task_ranks, shape.scaling, shape.decoder, dataset),
        ranks=o.four(shape.ranks, "ranks"),
        scaling=(shape.scaling,) * 4,
        decoder_channels=o.four(shape.decoder_channels, "decoder channels"),
        antialias=shape.antialias,
    )
    # what the method adapts decides which linears have ranks
    return o.with_linear_ranks(spec_for(method, spec), shape.ranks_file, shape.rank_of or [])


def _loop(recipe: Recipe, options: TrainOptions) -> "LoopConfig":
    from mtlora.training.run.loop import LoopConfig
    from mtlora.training.run.precision import Precision

    schedule, run = options.schedule, options.run
    return LoopConfig(
        steps=recipe.steps,
        lr=recipe.lr,
        warmup=recipe.warmup,
        warmup_from=recipe.lr * o.PUBLISHED_WARMUP_FROM,
        hold=schedule.hold,
        floor=recipe.lr * schedule.final_lr,
        ema_decay=recipe.ema,
        device=o.device_name(run.device),
        precision=o.member(Precision, run.precision, "precision"),
        seed=run.seed,
        save_every=run.save_every,
        log_every=run.log_every,
        tensorboard=run.tensorboard,
    )


def _validation(recipe: Recipe, options: ValidationOptions) -> "Validation | None":
    from mtlora.training.adapters.config import Validation

    if not recipe.val_every:
        asked = {"--patience": options.patience, "--baseline": options.baseline, "--val-photos": options.val_photos}
        if idle := next((flag for flag, given in asked.items() if given), ""):
            raise TrainingError(f"{idle} says nothing without looks at the validation split: give --val-every too")
        return None
    return Validation(
        every=recipe.val_every,
        split=options.val_split,
        photos=recipe.val_photos,
        patience=options.patience,
        baseline={} if options.baseline is None else _baseline(options.baseline),
    )


def _kept(options: PolicyOptions, init: Path | None, steps: int) -> "PolicyTraining":
    from mtlora.training.adapters.config import PolicyTraining
    from mtlora.vocabulary.policy import PolicyKind
    from mtlora.weights.adapter_file import load_adapter

    found = load_adapter(init).manifest.policy if init is not None and init.is_file() else None
    if found is None or found.kind is not PolicyKind.POOLED:
        raise TrainingError(
            f"--policy {KEEP} needs --init with an adapter file that has a pooled policy; `mtlora calibrate --fixed` "
            "makes one of any set"
        )
    open_steps = round(steps * options.open_share)
    return PolicyTraining(spec=found.shape, least=options.least_compute, open_steps=open_steps, kept=True)


def _policy(options: PolicyOptions, init: Path | None, steps: int) -> "PolicyTraining | None":
    from mtlora.training.adapters.config import PolicyTraining
    from mtlora.vocabulary.policy import PolicyKind, PolicyMode, PolicySpec

    if not options.policy:
        return None
    if options.policy == KEEP:
        return _kept(options, init, steps)
    kind = o.member(PolicyKind, options.policy, "policy")
    second = "windows" if kind is PolicyKind.POOLED else "tokens"
    gates = {part.strip() for part in options.policy_gates.split(",") if part.strip()} or {"blocks", second}
    if unknown := gates - {"blocks", second}:
        raise TrainingError(f"gates of a {kind} policy are blocks and {second}, got {', '.join(sorted(unknown))}")
    if not 0 <= options.open_share < 1:
        raise TrainingError(f"--open-share must be from 0 to below 1, got {options.open_share:g}")
    spec = PolicySpec(
        kind=kind,
        mode=o.member(PolicyMode, options.policy_mode, "policy mode"),
        hidden=o.two(options.policy_hidden or ("32,32" if kind is PolicyKind.POOLED else "64,64"), "hidden units"),
        blocks="blocks" in gates,
        **{second: second in gates},
    )
    return PolicyTraining(
        spec=spec,
        least=options.least_compute,
        weight=options.budget_weight,
        open_steps=round(steps * options.open_share),
    )


def _baseline(path: Path) -> "dict[Task, float]":
    from mtlora.metrics import HEADLINE
    from mtlora.vocabulary.tasks import parse_task

    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
        return {parse_task(name): float(scores[HEADLINE[parse_task(name)]]) for name, scores in tasks.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} does not hold scores as `mtlora evaluate --json` prints them: {error}") from error


def _run(config: "TrainConfig", resume: bool) -> None:
    from mtlora.training.adapters.train import said_of
    from mtlora.training.adapters.train import train as run
    from mtlora.training.report.write import REPORT_FILE
    from mtlora.training.run.checkpoint import CHECKPOINT_FILE
    from mtlora.training.run.console import ConsoleReport, report_caching
    from mtlora.training.run.processes import leading
    from mtlora.weights.adapter_file import read_manifest

    try:
        written = run(config, ConsoleReport("train"), report_caching, resume=resume, tell=_warn)
    except KeyboardInterrupt:
        say_err(_GO_ON if (config.out / CHECKPOINT_FILE).is_file() else _BEGIN_AGAIN)
        raise typer.Exit(_INTERRUPTED) from None
    if leading():
        weights = f"weights of step {read_manifest(written).provenance['steps']} of {config.loop.steps}"
        say(f"{written}: {', '.join(config.spec.task_names)}, {written.stat().st_size / 1e6:.1f} MB, {weights}")
        if config.report_photos:
            say(f"{config.out / REPORT_FILE}: scores, curves and photos; opens without a network")
        for remark in said_of(config):
            _warn(remark)


def _warn(line: str) -> None:
    say(f"warning: {line}", err=True)


def _dry_run(config: "TrainConfig", resume: bool) -> None:
    from rich.console import Console

    from mtlora.training.adapters.beginning import check_folder, check_labels
    from mtlora.training.adapters.job import AdapterJob
    from mtlora.training.adapters.table import parameter_table
    from mtlora.training.adapters.train import open_cache, prepare_model
    from mtlora.training.run.console import report_caching
    from mtlora.training.run.picture import batch_picture
    from mtlora.training.run.processes import ProcessGroup
    from mtlora.weights.backbone import load_backbone

    check_folder(config, resume=resume)
    group = ProcessGroup()
    photos = open_cache(config, report_caching)
    for line in check_labels(config, photos):
        _warn(line)
    model = prepare_model(config, load_backbone(config.backbone), group)
    Console().print(parameter_table(model))
    path = config.out / "batch.png"
    batch_picture(AdapterJob(model, photos, config, group).make(0), config.spec).save(path)
    say(f"{config.loop.steps} steps of {config.batch} photos out of {len(photos)}; {path}: the first batch")
