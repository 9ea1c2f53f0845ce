"""The loss against a teacher's logits of the same task (G. Hinton et al., 2015), pixel by pixel."""

import torch.nn.functional as F
from torch import Tensor

from mtlora.vocabulary.tasks import TRAITS, Decode, Task


def soft_loss(task: Task, logits: Tensor, teacher: Tensor, inside: Tensor, temperature: float) -> Tensor:
    """How far the logits are from a teacher's, averaged over all positions.

    Classes, saliency and edges: Kullback-Leibler divergence at `temperature`, times its square; normals: L1 between
    unit vectors; depth: L1.
    logits, teacher: float [B, K, h, w]; inside: bool [B, 1, h, w], False where nothing is to be learned
    """
    match TRAITS[task].decode:
        case Decode.ARGMAX:
            wanted = (teacher / temperature).log_softmax(dim=1)
            found = (logits / temperature).log_softmax(dim=1)
            each = F.kl_div(found, wanted, reduction="none", log_target=True).sum(dim=1, keepdim=True)
            each = each * temperature**2
        case Decode.SIGMOID:
            p = (teacher / temperature).sigmoid()
            found, wanted = logits / temperature, teacher / temperature
            cross = F.binary_cross_entropy_with_logits(found, p, reduction="none")
            each = (cross - F.binary_cross_entropy_with_logits(wanted, p, reduction="none")) * temperature**2
        case Decode.UNIT_VECTOR:
            each = (F.normalize(logits, dim=1) - F.normalize(teacher, dim=1)).abs().mean(dim=1, keepdim=True)
        case Decode.IDENTITY:
            each = (logits - teacher).abs()
    return (each * inside).sum() / inside.numel()
