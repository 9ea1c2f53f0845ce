import pytest
import torch
from timm.models.swin_transformer import get_relative_position_index

from mtlora.model.decoders.fusion import inside_input
from mtlora.training.pretraining.model import PretrainModel
from mtlora.training.pretraining.resolution import set_resolution, set_side, table_index
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import build_swin
from testing.factories import adapter_spec, backbone_spec, make_backbone, make_model

TASKS = (Task.SEMSEG, Task.NORMALS)


def pretrain_spec() -> AdapterSpec:
    return AdapterSpec(
        backbone=backbone_spec(),  # window 4: whole windows everywhere at 128 px
        image_size=128,
        tasks=tuple(TaskSpec.make(task) for task in TASKS),
        ranks=(0, 0, 0, 0),
        decoder_channels=(3, 4, 5, 6),
    )


def test_a_whole_window_reads_timms_index() -> None:
    assert torch.equal(table_index(4, 4), get_relative_position_index(4, 4))


def test_a_small_window_reads_the_middle_of_the_table() -> None:
    """Every pair of tokens reads the same offset's row, whatever the window."""
    large = get_relative_position_index(4, 4).view(4, 4, 4, 4)
    small = table_index(3, 4).view(3, 3, 3, 3)
    assert torch.equal(small, large[:3, :3, :3, :3])
    with pytest.raises(TrainingError, match="window of 5 cannot read a table for windows of 4"):
        table_index(5, 4)


def test_back_at_the_native_side_nothing_has_changed() -> None:
    swin = build_swin(backbone_spec(), 128).eval()
    x = torch.randn(1, 3, 128, 128)
    before = swin.forward_features(x)
    set_resolution(swin, 64)
    assert swin.forward_features(torch.randn(1, 3, 64, 64)).shape == (1, 2, 2, 64)
    set_resolution(swin, 128)
    torch.testing.assert_close(swin.forward_features(x), before, rtol=0, atol=0)


@pytest.mark.parametrize("size", [128, 64])
def test_pretrain_model_at_any_side(size: int) -> None:
    model = PretrainModel(pretrain_spec(), (5, 6, 7))
    model.set_image_size(size)
    logits, features = model(torch.randn(2, 3, size, size))
    assert logits[Task.SEMSEG].shape == (2, 21, size // 8, size // 8)
    assert [tuple(f.shape[1:]) for f in features] == [(c, size // s, size // s) for c, s in ((5, 8), (6, 16), (7, 32))]


def test_sides_that_windows_do_not_tile_are_refused() -> None:
    with pytest.raises(TrainingError, match="6 tokens in stage 1"):
        PretrainModel(pretrain_spec()).set_image_size(48)
    with pytest.raises(TrainingError, match="multiple of 4 px, got 50"):
        PretrainModel(pretrain_spec()).set_image_size(50)


def test_odd_sides_are_cut_to_the_input() -> None:
    x = torch.arange(4.0).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert inside_input(x, 3, 64) is x
    assert inside_input(x, 3, 48).shape == (1, 3, 3, 3)  # two tokens at 1/32 reach over a 48 px input


def test_an_adapted_model_at_half_its_side() -> None:
    """96 px and windows of 3, as 224 px and windows of 7: at half the side stage 3 has an odd number of tokens."""
    spec = adapter_spec(backbone_spec(window_size=3), tasks=TASKS, image_size=96)
    model = make_model(make_backbone(spec.backbone, image_size=96), spec)
    x = torch.randn(1, 3, 96, 96)
    before = model(x)
    with set_side(model, 48):
        assert model(torch.randn(1, 3, 48, 48))[Task.NORMALS].shape == (1, 3, 48, 48)
    after = model(x)
    assert all(torch.equal(before[task], after[task]) for task in TASKS)


def test_names_are_those_of_the_adapted_model() -> None:
    from mtlora.model.mtlora import build_model

    spec = pretrain_spec()
    ours = set(PretrainModel(spec).state_dict())
    theirs = set(build_model(make_backbone(spec.backbone, image_size=128), spec).state_dict())
    assert ours == theirs
