"""Low-rank pairs on frozen linear layers: TA-LoRA (shared) and TS-LoRA (one pair per task)."""

from mtlora.model.lora.inject import inject
from mtlora.model.lora.linear import LoRALinear, LowRankPair, TaskLoRALinear, TaskOutputs

__all__ = ["LoRALinear", "LowRankPair", "TaskLoRALinear", "TaskOutputs", "inject"]
