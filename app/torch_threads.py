"""How many cores a thread's operators use. Torch's rules for it are a trap, hence in one place.

Setting a number sets it for the calling thread, and as what threads begin with that have run no operator yet, even if
those have set their own: the first operator of a thread, or the first question, overwrites it.
"""

import torch

CHOSEN = torch.get_num_threads()
"""As many as torch chose, before anybody set anything."""


def use_threads(number: int) -> None:
    """Let the operators of the calling thread use so many threads from now on, whatever others set later."""
    torch.set_num_threads(number)
    torch.get_num_threads()  # the first question: from here on the number is this thread's own
