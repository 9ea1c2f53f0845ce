"""Random specs, small enough to build the model, for laws that must hold for every adapter set."""

from hypothesis import strategies as st

from mtlora.vocabulary.adapted_linears import AdaptedLinear, adapted_linears
from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec, DecoderKind, SharedMode, TaskSpec, palette_classes
from mtlora.vocabulary.tasks import TRAITS, Task


@st.composite
def backbone_specs(draw: st.DrawFn) -> BackboneSpec:
    """Encoders of width 4 or 8 with one or two blocks a stage."""
    return BackboneSpec(
        name=draw(st.sampled_from(["swin_test", "mine"])),
        embed_dim=draw(st.sampled_from([4, 8])),
        depths=draw(st.tuples(*[st.integers(1, 2)] * 4)),
        num_heads=draw(st.tuples(*[st.sampled_from([1, 2, 4])] * 4)),
        window_size=draw(st.sampled_from([2, 4])),
        mlp_ratio=draw(st.sampled_from([1.0, 2.0, 4.0])),
    )


def ranks(largest: int = 3) -> st.SearchStrategy[tuple[int, int, int, int]]:
    """Ranks of the four stages; 0 switches a stage off."""
    rank = st.integers(0, largest)
    return st.tuples(rank, rank, rank, rank)


@st.composite
def task_specs(draw: st.DrawFn, task: Task) -> TaskSpec:
    """One task with any decoder, and one to five classes where it has classes."""
    names = tuple(f"class {i}" for i in range(draw(st.integers(1, 5))))
    return TaskSpec.make(
        task,
        classes=palette_classes(names) if TRAITS[task].outputs is None else (),
        ranks=draw(ranks()),
        scaling=draw(st.tuples(*[st.sampled_from([0.5, 1.0, 4.0])] * 4)),
        decoder=draw(st.sampled_from(DecoderKind)),
    )


@st.composite
def adapter_specs(draw: st.DrawFn, *, linear_ranks: bool = True) -> AdapterSpec:
    """Any adapter set: every switch, mode, decoder and subset of tasks; linear_ranks: also ranks of single linears."""
    tasks = draw(st.lists(st.sampled_from(Task), min_size=1, max_size=4, unique=True))
    switches = [name for name, field in AdapterSpec.model_fields.items() if field.annotation is bool]
    spec = AdapterSpec(
        backbone=draw(backbone_specs()),
        image_size=draw(st.sampled_from([32, 64, 128])),
        tasks=tuple(draw(task_specs(task)) for task in tasks),
        mode=draw(st.sampled_from(SharedMode)),
        ranks=draw(ranks()),
        decoder_channels=draw(st.tuples(*[st.integers(1, 4)] * 4)),
        segformer_channels=draw(st.integers(1, 6)),
        **{name: draw(st.booleans()) for name in switches},
    )
    return draw(with_linear_ranks(spec)) if linear_ranks and draw(st.booleans()) else spec


@st.composite
def with_linear_ranks(draw: st.DrawFn, spec: AdapterSpec, largest: int = 5) -> AdapterSpec:
    """The spec with other ranks, 0 too, for some of its pairs."""
    linears = list(adapted_linears(spec))

    def some(owned: list[AdaptedLinear], of_stage: tuple[int, ...]) -> dict[str, int]:
        found = {linear.name: draw(st.integers(0, largest)) for linear in owned if draw(st.booleans())}
        stages = {linear.name: linear.stage for linear in owned}
        return {name: rank for name, rank in found.items() if rank != of_stage[stages[name]]}

    tasks = tuple(
        TaskSpec(**{**dict(t), "linear_ranks": some([linear for linear in linears if linear.splits], t.ranks)})
        for t in spec.tasks
    )
    shared = some([linear for linear in linears if not linear.norm], spec.ranks)
    return AdapterSpec(**{**dict(spec), "tasks": tasks, "linear_ranks": shared})
