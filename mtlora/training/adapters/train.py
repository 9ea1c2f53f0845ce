"""The run of `mtlora train`: an adapter set on a frozen backbone (paper, section 3; specification, section 7)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mtlora.data.cache import PhotoCache, Progress, cached, no_progress
from mtlora.data.layout import open_dataset
from mtlora.model.mtlora import MTLoRAModel, build_model
from mtlora.training.adapters.beginning import check_folder, check_labels
from mtlora.training.adapters.config import TrainConfig
from mtlora.training.adapters.job import AdapterJob
from mtlora.training.adapters.methods import Unfreeze, unfreeze
from mtlora.training.adapters.soft import LiveTeacher, SoftTargets, StoredTeacher
from mtlora.training.adapters.start import other_channels, source_of, start_from
from mtlora.training.adapters.table import group_counts
from mtlora.training.pretraining.batchnorm import share_batchnorm
from mtlora.training.pretraining.pretrain import cache_side
from mtlora.training.pretraining.resolution import train_at
from mtlora.training.report.looks import forget_looks
from mtlora.training.report.write import write_report
from mtlora.training.run.checkpoint import BEST_FILE, CHECKPOINT_FILE, load_checkpoint
from mtlora.training.run.loop import StepReport, Trainer, run_loop
from mtlora.training.run.memory import enough_memory
from mtlora.training.run.optim import build_adamw
from mtlora.training.run.processes import ProcessGroup, leading, run_crew
from mtlora.training.run.record import data_digest, file_digest, write_record
from mtlora.training.run.validation import DeltaWatch
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.policy import Policy, policy_shapes
from mtlora.weights.adapter_file import AdapterManifest, load_adapter, needed_version, write_adapter
from mtlora.weights.adapter_file.manifest import Provenance
from mtlora.weights.backbone import Backbone, load_backbone, save_backbone

ADAPTER_FILE = "adapter.safetensors"
BACKBONE_FILE = "backbone.safetensors"


def train(
    config: TrainConfig,
    report: StepReport,
    progress: Progress = no_progress,
    *,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Train to the end and write the adapter file; returns its path.

    A method that trains the backbone itself writes one of its own beside it. Under torchrun every process calls this.
    tell: called with what the labels cannot teach, before the first step
    """
    check_folder(config, resume=resume)
    if leading():
        photos = open_cache(config, progress)  # fill it before the processes start
        for line in check_labels(config, photos):
            tell(line)
    run_crew(_main, (config, report, resume), config.processes, config.out, config.loop.device)
    path = config.out / ADAPTER_FILE
    if leading():
        export(config, path)
        if config.report_photos:
            own = config.unfreeze is not Unfreeze.NONE
            write_report(
                config, load_backbone(config.out / BACKBONE_FILE if own else config.backbone), load_adapter(path)
            )
    return path


def said_of(config: TrainConfig) -> list[str]:
    """What the run's validation had to say of the weights that it kept, such as that only background is predicted."""
    if config.validation is None or not (config.out / BEST_FILE).is_file():
        return []
    return [str(remark) for remark in load_checkpoint(config.out, BEST_FILE).get("remarks", [])]


def export(config: TrainConfig, path: Path) -> str:
    """Write what a run has learned as an adapter file; its digest.

    That is the best weights where the run validated, else the last checkpoint (the moving average where there is one).
    """
    backbone = load_backbone(config.backbone)
    best = config.validation is not None and (config.out / BEST_FILE).is_file()
    state = load_checkpoint(config.out, BEST_FILE if best else CHECKPOINT_FILE)
    trained = {**state["model"], **state["average"]}
    spec = config.spec
    if config.unfreeze is not Unfreeze.NONE:
        backbone = _own_backbone(config, backbone, trained)
        spec = spec.model_copy(update={"backbone": backbone.spec})
    tensors = {name: trained[name] for name in build_model(backbone, spec).adapter_tensors()}
    provenance: Provenance = {
        "data": config.data.name,
        "split": config.split,
        "method": config.method,
        "steps": state["step"],
        "batch": config.batch,
        "seed": config.loop.seed,
        "lr": config.loop.lr,
        "started_from": "fresh adapters" if config.init is None else "another run",
    }
    policy = None if config.policy is None else Policy(**config.policy.spec.model_dump())
    manifest = AdapterManifest(
        format_version=needed_version(spec, policy),
        name=config.name,
        spec=spec,
        backbone_name=backbone.spec.name,
        backbone_fingerprint=backbone.fingerprint(spec),  # of the file: averaging can turn -0.0 into 0.0
        provenance=provenance,
        policy=policy,
    )
    of_policy = {} if policy is None else {name: trained[name] for name in policy_shapes(spec, policy)}
    return write_adapter(path, manifest, tensors | of_policy, torch.float16)


def _own_backbone(config: TrainConfig, backbone: Backbone, trained: dict[str, Any]) -> Backbone:
    """Write the encoder that a method has changed, and read it back as it will be served: float16."""
    spec = backbone.spec.model_copy(update={"name": f"{backbone.spec.name}-{config.method}"})
    tensors = {name: trained[f"backbone.{name}"] for name in backbone.tensors}
    path = config.out / BACKBONE_FILE
    save_backbone(Backbone(spec, tensors), path, torch.float16)
    return load_backbone(path)


def open_cache(config: TrainConfig, progress: Progress = no_progress) -> PhotoCache:
    """The decoded photos and labels of a run, made where they are missing."""
    tasks = config.spec.task_names
    dataset = open_dataset(config.data, config.split, tasks).spread(config.photos)
    return cached(dataset, tasks, cache_side(config.side), config.cache, progress)


def prepare_model(config: TrainConfig, backbone: Backbone, group: ProcessGroup) -> MTLoRAModel:
    """The model of one process before its first step: what is trained requires gradients."""
    torch.manual_seed(config.loop.seed)
    policy = None if config.policy is None else config.policy.spec
    model = build_model(backbone, config.spec, drop_path=config.drop_path, policy=policy)
    unfreeze(model.backbone, config.unfreeze)
    if config.init is not None:
        source = source_of(config.init)
        if not start_from(model, source):
            wanted, other = ", ".join(config.spec.task_names), other_channels(source, config.spec)
            raise TrainingError(f"{config.init} has no decoder that fits any of {wanted}{other}")
    if config.policy is not None and config.policy.kept and model.policy is not None:
        model.policy.requires_grad_(False)
    if group.processes > 1:
        share_batchnorm(model.decoders)
    model.recompute = config.recompute
    train_at(model, config.side)
    return model.to(group.device(config.loop.device)).train()


def build_trainer(config: TrainConfig, backbone: Backbone, photos: PhotoCache, group: ProcessGroup) -> Trainer:
    """Model, data and optimiser of one process, at step 0."""
    model = prepare_model(config, backbone, group)
    job = AdapterJob(model, photos, config, group, _soft_targets(config, photos, group))
    optimizer = build_adamw(model.named_parameters(), config.loop.lr, config.weight_decay)
    trainer = Trainer(job, [optimizer], config.loop, config.identity(), group)
    trainer.guard.compares = config.policy is None
    return trainer


def _soft_targets(config: TrainConfig, photos: PhotoCache, group: ProcessGroup) -> SoftTargets | None:
    if config.teacher is not None:
        backbone, device = config.teacher_backbone or config.backbone, group.device(config.loop.device)
        live = LiveTeacher.load(config.teacher, backbone, config.spec, device)
        return SoftTargets(live, config.spec, config.temperature)
    if config.soft_labels is not None:
        stored = StoredTeacher.load(config.soft_labels, photos.ids)
        return SoftTargets(stored, config.spec, config.temperature)
    return None


def _main(group: ProcessGroup, argument: tuple[TrainConfig, StepReport, bool]) -> None:
    config, report, resume = argument
    photos = open_cache(config)
    trainer = build_trainer(config, load_backbone(config.backbone), photos, group)
    model = trainer.job.model
    if not isinstance(model, MTLoRAModel):
        raise TrainingError(f"an adapter run trains an adapted model, got {type(model).__name__}")

    def begun(step: int) -> None:
        if group.leads:
            write_record(config.out, config, photos, _about(config, model), step=step)
            if not step:
                forget_looks(config.out)

    watch = None if config.validation is None else DeltaWatch(model, config, config.validation, group, report)
    with enough_memory(f"a batch of {config.batch} at {config.side} px in {config.processes} process(es)"):
        run_loop(trainer, config.out, report, resume=resume, watch=watch, begun=begun)


def _about(config: TrainConfig, model: MTLoRAModel) -> dict[str, Any]:
    """What run.json says beside the settings: what they were chosen from, what was read, what is trained."""
    dataset = open_dataset(config.data, config.split, config.spec.task_names).spread(config.photos)
    return {
        "recipe": config.recipe,
        "data_sha256": data_digest(dataset),
        "backbone_sha256": file_digest(config.backbone),
        **({"init_sha256": file_digest(config.init)} if config.init is not None and config.init.is_file() else {}),
        "parameters": group_counts(model),
    }
