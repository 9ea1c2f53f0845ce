"""The command `mtlora train`; see docs/training.md."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mtlora.cli import options as o
from mtlora.cli.option_groups import with_options
from mtlora.cli.say import say
from mtlora.cli.train_options import PolicyOptions, TrainOptions, ValidationOptions
from mtlora.vocabulary.errors import TrainingError

if TYPE_CHECKING:
    from mtlora.data.records import PhotoDataset
    from mtlora.training.adapters.config import PolicyTraining, TrainConfig, Validation
    from mtlora.training.adapters.methods import Method
    from mtlora.training.run.loop import LoopConfig
    from mtlora.vocabulary.spec import AdapterSpec
    from mtlora.vocabulary.tasks import Task


@with_options
def train(options: TrainOptions) -> None:
    """Train an adapter set on a frozen backbone; writes OUT/adapter.safetensors."""
    config = make_config(options)
    if options.dry_run:
        _dry_run(config)
    else:
        _run(config, options.resume)


def make_config(options: TrainOptions) -> "TrainConfig":
    """The settings of a run from the command's options."""
    from mtlora.data.augment import AugmentConfig
    from mtlora.data.layout import open_dataset
    from mtlora.training.adapters.config import TrainConfig
    from mtlora.training.adapters.methods import Method, unfreeze_for
    from mtlora.weights.bundled import find_backbone

    made, schedule, varied, teacher = options.set, options.schedule, options.augment, options.teacher
    dataset = open_dataset(made.data, made.split).spread(schedule.photos)
    path = find_backbone(made.backbone)
    method = o.member(Method, made.method, "method")
    loop = _loop(dataset, options)
    return TrainConfig(
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
        image_side=options.shape.image_side,
        batch=schedule.batch,
        accumulate=schedule.accumulate,
        recompute=schedule.recompute,
        processes=options.run.processes,
        weight_decay=schedule.weight_decay,
        drop_path=schedule.drop_path,
        label_stride=options.loss.label_stride,
        task_weights=o.task_weights(options.loss.loss_weights),
        class_balance=options.loss.class_balance,
        augment=AugmentConfig(jitter=varied.jitter, rotate_deg=varied.rotate, scale=o.zoom_range(varied.zoom)),
        teacher=teacher.teacher,
        teacher_backbone=teacher.teacher_backbone,
        soft_labels=teacher.soft_labels,
        distill=teacher.distill,
        temperature=teacher.temperature,
        validation=_validation(options.validation),
        policy=_policy(options.policy, loop.steps),
    )


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


def _loop(dataset: "PhotoDataset", options: TrainOptions) -> "LoopConfig":
    from mtlora.training.run.loop import LoopConfig
    from mtlora.training.run.precision import Precision

    schedule, run = options.schedule, options.run
    steps = o.step_count(dataset, schedule.steps, schedule.epochs, schedule.batch)
    lr = schedule.lr or 5e-4 * schedule.batch / 512
    return LoopConfig(
        steps=steps,
        lr=lr,
        warmup=round(steps * o.WARMUP_SHARE) if schedule.warmup < 0 else schedule.warmup,
        warmup_from=lr * o.PUBLISHED_WARMUP_FROM,
        hold=schedule.hold,
        floor=lr * schedule.final_lr,
        ema_decay=schedule.ema,
        device=o.device_name(run.device),
        precision=o.member(Precision, run.precision, "precision"),
        seed=run.seed,
        save_every=run.save_every,
        log_every=run.log_every,
        tensorboard=run.tensorboard,
    )


def _validation(options: ValidationOptions) -> "Validation | None":
    from mtlora.training.adapters.config import Validation

    if not options.val_every:
        if options.patience:
            raise TrainingError(f"--patience {options.patience} needs --val-every")
        return None
    return Validation(
        every=options.val_every,
        split=options.val_split,
        photos=options.val_photos,
        patience=options.patience,
        baseline={} if options.baseline is None else _baseline(options.baseline),
    )


def _policy(options: PolicyOptions, steps: int) -> "PolicyTraining | None":
    from mtlora.training.adapters.config import PolicyTraining
    from mtlora.vocabulary.policy import PolicyKind, PolicyMode, PolicySpec

    if not options.policy:
        return None
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
    from mtlora.training.adapters.train import train as run
    from mtlora.training.run.console import ConsoleReport, report_caching
    from mtlora.training.run.processes import leading
    from mtlora.weights.adapter_file import read_manifest

    written = run(config, ConsoleReport("train"), report_caching, resume=resume)
    if leading():
        weights = f"weights of step {read_manifest(written).provenance['steps']} of {config.loop.steps}"
        say(f"{written}: {', '.join(config.spec.task_names)}, {written.stat().st_size / 1e6:.1f} MB, {weights}")


def _dry_run(config: "TrainConfig") -> None:
    from rich.console import Console

    from mtlora.training.adapters.job import AdapterJob
    from mtlora.training.adapters.table import parameter_table
    from mtlora.training.adapters.train import open_cache, prepare_model
    from mtlora.training.run.console import report_caching
    from mtlora.training.run.picture import batch_picture
    from mtlora.training.run.processes import ProcessGroup
    from mtlora.weights.backbone import load_backbone

    group = ProcessGroup()
    photos = open_cache(config, report_caching)
    model = prepare_model(config, load_backbone(config.backbone), group)
    Console().print(parameter_table(model))
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "batch.png"
    batch_picture(AdapterJob(model, photos, config, group).make(0), config.spec).save(path)
    say(f"{config.loop.steps} steps of {config.batch} photos out of {len(photos)}; {path}: the first batch")
