from pathlib import Path

import pytest
import torch

from mtlora.model.mtlora import build_model
from mtlora.prediction.adapted import build_adapted
from mtlora.training.adapters.methods import Method, spec_for, unfreeze, unfreeze_for
from mtlora.training.adapters.table import group_counts, parameter_table
from mtlora.training.adapters.train import train
from mtlora.training.run.checkpoint import load_checkpoint
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.spec import SharedMode
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone, save_backbone
from testing.factories import adapter_spec, backbone_spec, make_backbone
from testing.tiny_dataset import write_dataset
from testing.training_runs import silent, spec, train_config


def counts(method: Method) -> dict[str, int]:
    whole = adapter_spec(tasks=(Task.SEMSEG,)) if method is Method.SINGLE else adapter_spec()
    model = build_model(make_backbone(), spec_for(method, whole))
    unfreeze(model.backbone, unfreeze_for(method))
    return group_counts(model)


def test_what_each_method_trains() -> None:
    found = {method: counts(method) for method in Method}
    trained = {method: count["trained"] for method, count in found.items()}
    assert trained[Method.DECODERS] == found[Method.DECODERS]["decoder"]
    assert found[Method.LORA]["task pairs"] == 0 < found[Method.LORA]["shared pairs"]
    assert found[Method.MTLORA]["task pairs"] > 0
    assert found[Method.MTLORA_PLUS]["patches"] < found[Method.MTLORA]["patches"]
    assert found[Method.MTLORA_PLUS]["shared pairs"] > found[Method.MTLORA]["shared pairs"]
    assert found[Method.FULL]["trained"] == found[Method.FULL]["total"]
    assert found[Method.FULL]["lora"] == found[Method.BITFIT]["lora"] == 0
    order = (Method.DECODERS, Method.BITFIT, Method.LORA, Method.MTLORA, Method.FULL)
    assert [trained[method] for method in order] == sorted(trained[method] for method in order)
    assert all(c["trained"] == c["lora"] + c["decoder"] + c["extra"] for c in found.values())
    assert spec_for(Method.LORA, adapter_spec()).mode is SharedMode.LORA_ONLY


def test_bitfit_trains_bias_vectors_only() -> None:
    model = build_model(make_backbone(), spec_for(Method.BITFIT, adapter_spec()))
    unfreeze(model.backbone, unfreeze_for(Method.BITFIT))
    names = [name for name, p in model.backbone.named_parameters() if p.requires_grad]
    assert names and all(name.endswith(".bias") for name in names)
    biases = [name for name, _ in model.backbone.named_parameters() if name.endswith(".bias")]
    assert names == biases


def test_a_single_task_is_one_task() -> None:
    with pytest.raises(TrainingError, match="method single trains one task, got semseg, "):
        spec_for(Method.SINGLE, adapter_spec())


def test_the_table_has_what_is_trained() -> None:
    model = build_model(make_backbone(), adapter_spec())
    rows = parameter_table(model).columns
    assert "task pairs" in list(rows[0].cells) and "the whole model" in list(rows[0].cells)
    assert f"{group_counts(model)['trained']:,}" in list(rows[1].cells)


def test_full_fine_tuning_leaves_a_backbone_of_its_own(tmp_path: Path) -> None:
    """The set fits the backbone beside it, and the one it came from is as it was."""
    data, source = write_dataset(tmp_path / "data"), tmp_path / "backbone.safetensors"
    backbone = make_backbone(backbone_spec(window_size=2))
    save_backbone(backbone, source, torch.float16)
    before = source.read_bytes()
    wanted = spec_for(Method.FULL, spec(tasks=(Task.SEMSEG,)))
    fields = {"spec": wanted, "method": "full", "unfreeze": unfreeze_for(Method.FULL)}
    adapter = load_adapter(train(train_config(data, source, tmp_path / "run", 2, batch=2, **fields), silent))
    own = load_backbone(tmp_path / "run" / "backbone.safetensors")
    assert own.spec.name == "test-swin-full" and adapter.manifest.provenance["method"] == "full"
    assert build_adapted(own, adapter)(torch.zeros(1, 3, 64, 64))[Task.SEMSEG].shape == (1, 21, 64, 64)
    name = "layers.3.blocks.0.mlp.fc1.weight"
    trained = load_checkpoint(tmp_path / "run")["average"][f"backbone.{name}"]
    assert not torch.equal(own.tensors[name], backbone.tensors[name])
    torch.testing.assert_close(own.tensors[name], trained, rtol=0.01, atol=1e-3)
    assert source.read_bytes() == before
