"""What the published AdaMTL code does otherwise than one would expect: one switch for each thing."""

from pydantic import Field

from mtlora.vocabulary.spec import Spec, Switch


class Quirks(Spec):
    """True: as published. All are false unless said otherwise: then the sensible thing is done, as each one says.

    A converted checkpoint needs those that change what the model computes: it was trained with them.
    """

    noise_in_evaluation: Switch = Field(
        default=False, description="gates are drawn in evaluation too; else a gate is open where its logit is above 0"
    )
    reinterpreted_features: Switch = Field(
        default=False, description="decoders read the memory of [L, F] as [F, h, w]; else it is transposed"
    )
    closed_tokens_add_norm: Switch = Field(
        default=False, description="a closed token adds its normalised value; else the MLP leaves it alone"
    )
    token_training_skips_blocks: Switch = Field(
        default=False, description="training with token gates alone throws the blocks' outputs away; else it keeps them"
    )
    early_exit_per_batch: Switch = Field(
        default=False, description="in training attention is skipped if no image has an open token; else for each image"
    )
    counts_tokens_of_closed_blocks: Switch = Field(
        default=False, description="the efficiency loss counts tokens of closed blocks too; else their tokens count 0"
    )
    clipped_union: Switch = Field(
        default=False, description="tasks' gates are added and clipped, in order; else united as 1 - prod(1 - gate)"
    )
    hard_tokens_in_pretraining: Switch = Field(
        default=False, description="policy `single` has hard token gates although soft ones are asked for; else soft"
    )
    hard_gates_of_other_tasks: Switch = Field(
        default=False, description="with one task given, the others' block gates are hard; else as asked for"
    )
    weights_on_shares: Switch = Field(
        default=False, description="the weighted loss per block multiplies shares by 96 to 768; else squared errors"
    )
    overlap_without_gradient: Switch = Field(
        default=False, description="the overlap loss counts equal gates, unweighted; else a product with a gradient"
    )
    closed_blocks_listed_twice: Switch = Field(
        default=False, description="statistics of a model that runs in full list closed blocks twice; else once"
    )
    block_selectors_cost_nothing: Switch = Field(
        default=False, description="multiply-adds leave block selectors out; else all that ran is counted"
    )
    decay_of_position_tables: Switch = Field(
        default=False, description="weight decay acts on position bias tables; else it does not"
    )

    @classmethod
    def published(cls) -> "Quirks":
        """All of them."""
        return cls(**dict.fromkeys(cls.model_fields, True))
