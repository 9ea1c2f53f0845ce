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


BudgetText = Annotated[
    str, BeforeValidator(_text), AfterValidator(_checked), Field(json_schema_extra={"maxLength": 60})
]
"""For the annotation of a budget that a client writes; it stays text, for what it means is for the set to say."""


def offered(policy: Policy | None) -> Budget:
    """The budgets that a set can keep; exactly 1: it has no policy that decides beforehand."""
    if policy is None or policy.kind is not PolicyKind.POOLED:
        return WHOLE
    return Budget(policy.calibration[0].compute if policy.calibration else LOWEST, 1.0)


def granted(asked: str, policy: Policy | None, ref: object) -> Budget:
    """What a client gets who asked for this: `BadParameterError` (422) if the set cannot keep it."""
    wanted, offer = parse_budget(asked), offered(policy)
    if wanted is None:
        return offer
    if wanted.lowest < offer.lowest:
        raise BadParameterError(f"compute {asked}: adapter set {ref} {_offer_in_words(policy, offer)}")
    return wanted


def usual(policy: Policy | None, of_key: str | None, of_server: str | None) -> Budget:
    """What an image gets of whose compute its request says nothing: as the key says, else the set, else the server.

    Nobody asked this set for it, so nothing is refused: it gets what is nearest among what it offers.
    """
    offer = offered(policy)
    of_set = None if policy is None or policy.default_compute is None else f"{policy.default_compute:g}"
    said = next((one for one in (of_key, of_set, of_server) if one is not None), "1")
    wanted = parse_budget(said)
    return offer if wanted is None else Budget(offer.clamp(wanted.lowest), offer.clamp(wanted.highest))


def _offer_in_words(policy: Policy | None, offer: Budget) -> str:
    if offer.is_open:
        return f"offers compute {offer.lowest:g} to 1, or auto"
    has = "no policy" if policy is None else f"a policy of kind {policy.kind}, which only `mtlora predict` runs"
    return f"has {has}; a server computes everything of it: leave compute away, or say 1 or auto"
