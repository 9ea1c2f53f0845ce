"""What is looked at before the first step of `train`: a run that would teach nothing does not begin."""

from mtlora.data.agreement import check_agreement
from mtlora.data.cache import PhotoCache
from mtlora.data.classes import check_classes
from mtlora.data.layout import open_dataset
from mtlora.data.taught import check_taught
from mtlora.training.adapters.config import TrainConfig
from mtlora.training.run.checkpoint import CHECKPOINT_FILE
from mtlora.training.run.validation import validation_photos
from mtlora.vocabulary.errors import TrainingError


def check_folder(config: TrainConfig, *, resume: bool) -> None:
    """Make the run's folder; `TrainingError` where it cannot be, or holds a run that is not to go on."""
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{config.out} cannot be the folder of a run: {error.strerror}") from error
    if (config.out / CHECKPOINT_FILE).is_file() and not resume:
        raise TrainingError(f"{config.out} already holds a run; go on with --resume or choose another folder")


def check_labels(config: TrainConfig, photos: PhotoCache) -> tuple[str, ...]:
    """Look at what labels say, and at those of the validation split; `DataError` says what cannot be.

    photos:  the decoded ones of the run
    returns: in words, what the set will not learn
    """
    dataset = open_dataset(config.data, config.split, config.spec.task_names)
    for task in config.spec.tasks:
        check_classes(task, dataset)
    absent = check_taught(photos, config.spec.tasks, config.data)
    if config.validation is not None:
        check_agreement(validation_photos(config, config.validation), config.spec.task_names)
    return absent
