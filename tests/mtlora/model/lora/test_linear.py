import torch
from torch import nn

from mtlora.model.lora import LoRALinear, LowRankPair, TaskLoRALinear
from mtlora.vocabulary.spec import SharedMode
from mtlora.vocabulary.tasks import Task

TASKS = (Task.SEMSEG, Task.DEPTH)


def pair(rank: int = 2, *, scaling: float = 3.0, learned: bool = False, fresh: bool = False) -> LowRankPair:
    made = LowRankPair(6, 5, rank=rank, scaling=scaling, learned=learned)
    made.reset_parameters()
    if not fresh:
        nn.init.normal_(made.lora_b)
    return made


def tasked(mode: SharedMode) -> TaskLoRALinear:
    shared = None if mode is SharedMode.ADDITION else pair()
    pairs = {task: pair() for task in TASKS}
    return TaskLoRALinear(nn.Linear(6, 5), shared=shared, tasks=pairs, task_names=TASKS, mode=mode, dropout=0.0)


def test_fresh_pair_changes_nothing() -> None:
    """B starts at zero, so a new LoRA layer must equal its base layer exactly."""
    base = nn.Linear(6, 5)
    x = torch.randn(8, 49, 6)
    torch.testing.assert_close(LoRALinear(base, shared=pair(fresh=True), dropout=0.5)(x), base(x), rtol=0, atol=0)


def test_scaling_multiplies_the_product_directly() -> None:
    """Neither alpha nor alpha / rank: doubling the scaling doubles the difference, whatever the rank."""
    base, low_rank = nn.Linear(6, 5), pair(scaling=3.0)
    x = torch.randn(4, 6)
    delta = LoRALinear(base, shared=low_rank, dropout=0.0)(x) - base(x)
    torch.testing.assert_close(delta, 3.0 * x @ (low_rank.lora_b @ low_rank.lora_a).T)


def test_learned_scaling_is_a_parameter() -> None:
    learned = pair(scaling=3.0, learned=True)
    assert dict(learned.named_parameters())["scaling"].shape == (1,)
    assert "scaling" not in dict(pair().named_parameters())


def test_frozen_product_of_a_task_comes_from_the_shared_input() -> None:
    layer, x, own = tasked(SharedMode.MATRIX), torch.randn(4, 6), torch.randn(4, 6)
    out = layer.forward_tasks(x, {Task.DEPTH: own}, TASKS)
    torch.testing.assert_close(out.by_task[Task.DEPTH], layer.frozen(x) + layer.tasks["depth"](own))
    torch.testing.assert_close(out.by_task[Task.SEMSEG], layer.frozen(x) + layer.tasks["semseg"](x))
    torch.testing.assert_close(out.shared, layer(x))


def test_second_matrix_mode_adds_the_shared_term_to_the_tasks() -> None:
    layer, x = tasked(SharedMode.MATRIX_V2), torch.randn(4, 6)
    out = layer.forward_tasks(x, {}, TASKS)
    torch.testing.assert_close(out.by_task[Task.DEPTH], layer(x) + layer.tasks["depth"](x))


def test_addition_normalises_the_sum_of_the_tasks() -> None:
    layer, x = tasked(SharedMode.ADDITION), torch.randn(4, 6)
    assert layer.norm is not None
    out = layer.forward_tasks(x, {}, TASKS)
    torch.testing.assert_close(out.shared, layer.frozen(x) + layer.norm(sum(out.by_task.values())))


def test_dropout_acts_on_the_low_rank_branch_in_training_only() -> None:
    base = nn.Linear(6, 5)
    layer, x = LoRALinear(base, shared=pair(), dropout=0.5), torch.ones(256, 6)
    assert layer.train()(x).std(dim=0).max() > 0
    assert layer.eval()(x).std(dim=0).max() < 1e-5
