"""Budgets of compute: which share of an encoder's blocks an image may cost."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from app.core.errors import BadParameterError
from app.core.numbers import share_of
from mtlora.vocabulary.policy import Policy, PolicyKind

LOWEST = 0.3
"""Of sets that were not calibrated."""
FORM = "a share such as 0.6, a range such as 0.5-1 from which the server chooses, or auto"


@dataclass(frozen=True, slots=True)
class Budget:
    """What an image may cost: the server chooses between both, lower under load."""

    lowest: float = 1.0
    highest: float = 1.0

    @property
    def is_open(self) -> bool:
        """Whether there is a choice."""
        return self.lowest < self.highest

    def __str__(self) -> str:
        """As a client may write it; equal budgets are written alike."""
        return f"{self.lowest:g}-{self.highest:g}" if self.is_open else f"{self.highest:g}"

    def clamp(self, share: float) -> float:
        """The share within the budget that is nearest."""
        return min(max(share, self.lowest), self.highest)


WHOLE = Budget()


def parse_budget(text: str) -> Budget | None:
    """A budget as clients write it; None: `auto`, as the set offers. `ValueError`: none of these."""
    if text == "auto":
        return None
    low, dash, high = text.partition("-")
    lowest, highest = share_of(low), share_of(high if dash else low)
    if lowest is None or highest is None or not 0 < lowest <= highest:
        raise ValueError(f"must be {FORM}")
    return Budget(lowest, highest)


def _text(value: Any) -> Any:
    """JSON has numbers."""
    return f"{value:.6g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


def _checked(text: str) -> str:
    try:
        budget = parse_budget(text)
    except ValueError as error:
        raise PydanticCustomError("budget", "Input {words}", {"words": str(error)}) from error
    return text if budget is None else str(budget)


BudgetText = Annotated[str, BeforeValidator(_text), Field(max_length=60), AfterValidator(_checked)]
"""For the annotation of a budget that a client writes; it stays text, for what it means is for the set to say."""


def offered(policy: Policy | None) -> Budget:
    """The budgets that a set can keep; exactly 1: it has no policy that decides beforehand."""
    if policy is None or policy.kind is not PolicyKind.POOLED:
        return WHOLE
    return Budget(policy.calibration[0].compute if policy.calibration else LOWEST, 1.0)


def granted(asked: str | None, offer: Budget, ref: object) -> Budget:
    """What a client gets who asked for this: `BadParameterError` (422) if the set cannot keep it."""
    if asked is None:
        return WHOLE
    wanted = parse_budget(asked)
    if wanted is None:
        return offer
    if wanted.lowest < offer.lowest:
        has = f"offers compute {offer.lowest:g} to 1" if offer.is_open else "has no pooled policy, so compute is 1"
        raise BadParameterError(f"compute {asked}: adapter set {ref} {has}")
    return wanted
