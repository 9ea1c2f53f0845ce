"""The command `mtlora pretrain`; see docs/training.md."""

from dataclasses import replace
from typing import TYPE_CHECKING

from mtlora.cli import options as o
from mtlora.cli.option_groups import with_options
from mtlora.cli.pretrain_options import PretrainOptions
from mtlora.cli.say import say
from mtlora.training.adapters.recipe import WARMUP_SHARE

if TYPE_CHECKING:
    from mtlora.data.records import PhotoDataset
    from mtlora.training.pretraining.pretrain import PretrainConfig
    from mtlora.training.run.loop import LoopConfig
    from mtlora.vocabulary.spec import AdapterSpec


@with_options
def pretrain(options: PretrainOptions) -> None:
    """Train a small Swin from scratch on all tasks and a teacher's features; writes OUT/backbone.safetensors."""
    _run(_config(options), options.resume)


def _config(options: PretrainOptions) -> "PretrainConfig":
    """The settings of a run from the command's options."""
    from mtlora.data.layout import open_dataset
    from mtlora.training.pretraining.pretrain import PRETRAIN_AUGMENT, PretrainConfig
    from mtlora.training.pretraining.teacher_maps import TeacherKind
    from mtlora.training.run.optim import OptimizerKind

    source, schedule, teacher, varied = options.source, options.schedule, options.teacher, options.augment
    dataset = open_dataset(source.data, source.split)
    return PretrainConfig(
        spec=_spec(dataset, options),
        data=source.data,
        out=source.out,
        cache=options.run.cache,
        split=source.split,
        unlabelled=source.unlabelled,
        init=source.init,
        image_size=options.shape.image_size,
        loop=_loop(dataset, options),
        batch=schedule.batch,
        accumulate=schedule.accumulate,
        processes=options.run.processes or 1,
        optimizer=o.member(OptimizerKind, schedule.optimizer, "optimizer"),
        weight_decay=schedule.weight_decay,
        drop_path=schedule.drop_path,
        teacher=o.member(TeacherKind, teacher.teacher, "teacher"),
        distill=teacher.distill,
        semantic=teacher.semantic,
        augment=replace(PRETRAIN_AUGMENT, scale=o.zoom_range(varied.zoom), jitter=varied.jitter),
        task_weights=o.task_weights(options.loss.loss_weights),
        class_balance=options.loss.class_balance,
    )


def _spec(dataset: "PhotoDataset", options: PretrainOptions) -> "AdapterSpec":
    from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec

    shape = options.shape
    return AdapterSpec(
        backbone=BackboneSpec(
            name=options.source.name,
            embed_dim=shape.width,
            depths=o.four(shape.depths, "depths"),
            num_heads=o.four(shape.heads, "heads"),
            window_size=shape.window,
        ),
        image_size=32 * shape.window,  # the smallest side at which every stage has a whole window
        tasks=o.task_specs(options.source.tasks, "", "4,4,4,4", 4.0, "hrnet", dataset),
        ranks=(16, 16, 16, 16),
        decoder_channels=o.four(shape.decoder_channels, "decoder channels"),
        antialias=True,
    )


def _loop(dataset: "PhotoDataset", options: PretrainOptions) -> "LoopConfig":
    from mtlora.training.run.loop import LoopConfig
    from mtlora.training.run.precision import Precision

    schedule, run = options.schedule, options.run
    steps = o.step_count(dataset, schedule.steps, schedule.epochs, schedule.batch)
    return LoopConfig(
        steps=steps,
        lr=schedule.lr,
        warmup=round(steps * WARMUP_SHARE) if schedule.warmup < 0 else schedule.warmup,
        hold=schedule.hold,
        floor=schedule.lr * schedule.final_lr,
        ema_decay=schedule.ema,
        device=o.device_name(run.device),
        precision=o.member(Precision, run.precision, "precision"),
        seed=run.seed,
        save_every=run.save_every,
        log_every=run.log_every,
        tensorboard=run.tensorboard,
    )


def _run(config: "PretrainConfig", resume: bool) -> None:
    from mtlora.training.pretraining.pretrain import pretrain as run
    from mtlora.training.run.console import ConsoleReport, report_caching
    from mtlora.training.run.processes import leading

    written = run(config, ConsoleReport("pretrain"), report_caching, resume=resume)
    if leading():
        say(f"{written}: {config.spec.backbone.name}, {written.stat().st_size / 1e6:.1f} MB")
