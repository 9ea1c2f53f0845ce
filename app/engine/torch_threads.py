"""Torch's settings for each thread: how many cores its operators use, and that denormal numbers count as zero.

Torch's rules for the number are a trap, hence in one place. Setting it sets it for the calling thread, and as what
threads begin with that have run no operator yet, even if those have set their own: the first operator of a thread, or
the first question, overwrites it.
"""

import torch

from mtlora.ops.denormals import flush_denormals

CHOSEN = torch.get_num_threads()
"""As many as torch chose, before anybody set anything."""


def use_threads(number: int) -> None:
    """Let the operators of the calling thread use so many threads from now on, whatever others set later.

    Denormal numbers count as zero in it from now on, and in the threads that share its operators' work.
    """
    torch.set_num_threads(number)
    torch.get_num_threads()  # the first question: from here on the number is this thread's own
    flush_denormals()  # before any operator: threads begin as the one that starts them
