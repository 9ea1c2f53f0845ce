"""MTLoRA written out as plainly as its description: loops over tasks, nothing merged, everything upsampled.

The published way of computing: the baseline that benchmarks measure against, and what tests compare with. Shares no
code with the product: it works on a dictionary of tensors (names as in `MTLoRAModel.state_dict()`) and plain numbers.
Where pairs are it reads off that dictionary, and where tasks have outputs it is told by a reading of the rule of its
own, never by `mtlora.vocabulary.adapted_linears`: a fault there shows as a difference here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, reduce

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class PlainMTLoRA:
    """One adapted model.

    state:   every tensor of the model by name
    tasks:   names of the tasks, in order
    scaling: constant multipliers: `shared` and each task -> four numbers, one a stage; learned ones are in `state`
    mode:    matrix | matrixv2 | addition | lora_only
    task_linears: names of the linears that give every task an output of its own
    """

    state: dict[str, Tensor]
    tasks: list[str]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    mode: str
    scaling: Mapping[str, tuple[float, ...]]
    task_linears: frozenset[str]
    decoder: dict[str, str] = field(default_factory=dict)

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """float [B, 3, S, S] -> logits float [B, K, S, S] of every task."""
        size = x.shape[-1]
        features = self._encode(x)
        logits = {}
        for task in self.tasks:
            maps = [
                F.conv2d(features[k][task].permute(0, 3, 1, 2), self.state[f"projections.{task}.{k}.weight"])
                for k in range(4)
            ]
            decode = {"hrnet": self._hrnet, "segformer": self._segformer, "aspp": self._aspp}
            coarse = decode[self.decoder.get(task, "hrnet")](f"decoders.{task}", maps)
            logits[task] = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
        return logits

    # encoder

    def _encode(self, x: Tensor) -> list[dict[str, Tensor]]:
        s = self.state
        x = F.conv2d(x, s["backbone.patch_embed.proj.weight"], s["backbone.patch_embed.proj.bias"], stride=4)
        x = self._norm("backbone.patch_embed.norm", x.permute(0, 2, 3, 1))
        features = []
        for stage in range(4):
            streams: dict[str, Tensor] | None = None
            for block in range(self.depths[stage]):
                x, streams = self._block(f"backbone.layers.{stage}.blocks.{block}", x, stage, shifted=block % 2 == 1)
            if stage < 3:
                x = self._merge(x, stage)
                streams = {t: self._merge(y, stage) for t, y in streams.items()} if streams else streams
            features.append({t: streams[t] if streams else x for t in self.tasks})
        return features

    def _block(self, name: str, x: Tensor, stage: int, *, shifted: bool) -> tuple[Tensor, dict[str, Tensor] | None]:
        height, width = x.shape[1:3]
        window = min(self.window, height)
        shift = self.window // 2 if shifted and height > self.window else 0
        rolled = torch.roll(self._norm(f"{name}.norm1", x), (-shift, -shift), (1, 2))
        windows = _partition(rolled, window)
        attended = self._attend(f"{name}.attn", windows, stage, _mask(height, window, shift, x.device))
        y, y_tasks = self._linear(f"{name}.attn.proj", attended, None, stage)

        def back(windows: Tensor) -> Tensor:
            return x + torch.roll(_reverse(windows, window, height, width), (shift, shift), (1, 2))

        z = back(y)
        z_tasks = None if y_tasks is None else {t: back(v) for t, v in y_tasks.items()}
        n = self._norm(f"{name}.norm2", z)
        n_tasks = None if z_tasks is None else {t: self._norm(f"{name}.norm2", v) for t, v in z_tasks.items()}
        h, h_tasks = self._linear(f"{name}.mlp.fc1", n, n_tasks, stage)
        g_tasks = None if h_tasks is None else {t: F.gelu(v) for t, v in h_tasks.items()}
        m, m_tasks = self._linear(f"{name}.mlp.fc2", F.gelu(h), g_tasks, stage)
        if m_tasks is not None and z_tasks is not None:
            m_tasks = {t: z_tasks[t] + v for t, v in m_tasks.items()}
        return z + m, m_tasks

    def _attend(self, name: str, windows: Tensor, stage: int, mask: Tensor | None) -> Tensor:
        count, tokens, channels = windows.shape
        heads = self.heads[stage]
        qkv, _ = self._linear(f"{name}.qkv", windows, None, stage)
        q, k, v = qkv.reshape(count, tokens, 3, heads, channels // heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * (channels // heads) ** -0.5
        table = self.state[f"{name}.relative_position_bias_table"]
        scores = scores + table[_positions(tokens, table.device)].permute(2, 0, 1)
        if mask is not None:
            scores = (scores.reshape(-1, len(mask), heads, tokens, tokens) + mask[:, None]).reshape(scores.shape)
        mixed: Tensor = (scores.softmax(-1) @ v).transpose(1, 2)
        return mixed.reshape(count, tokens, channels)

    def _merge(self, x: Tensor, stage: int) -> Tensor:
        name = f"backbone.layers.{stage + 1}.downsample"
        neighbours = [x[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
        merged, _ = self._linear(
            f"{name}.reduction", self._norm(f"{name}.norm", torch.cat(neighbours, -1)), None, stage
        )
        return merged

    def _linear(
        self, name: str, x: Tensor, streams: dict[str, Tensor] | None, stage: int
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        frozen = F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))
        ta = self._pair(f"{name}.shared", x, self.scaling["shared"][stage])
        if name not in self.task_linears:
            return (frozen if ta is None else frozen + ta), None
        by_task = {}
        for task in self.tasks:
            y = frozen if self.mode != "matrixv2" or ta is None else frozen + ta
            term = self._pair(
                f"{name}.tasks.{task}", x if streams is None else streams[task], self.scaling[task][stage]
            )
            by_task[task] = y if term is None else y + term
        if self.mode == "addition":
            return frozen + self._norm(f"{name}.norm", reduce(torch.add, by_task.values())), by_task
        return (frozen if ta is None else frozen + ta), by_task

    def _pair(self, name: str, x: Tensor, scaling: float) -> Tensor | None:
        if f"{name}.lora_a" not in self.state:
            return None
        low = x @ self.state[f"{name}.lora_a"].T
        return low @ self.state[f"{name}.lora_b"].T * self.state.get(f"{name}.scaling", scaling)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    # decoders

    def _batch_norm(self, name: str, x: Tensor) -> Tensor:
        s = self.state
        return F.batch_norm(
            x, s[f"{name}.running_mean"], s[f"{name}.running_var"], s[f"{name}.weight"], s[f"{name}.bias"]
        )

    def _conv(self, name: str, x: Tensor, **options: int) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), **options)

    def _hrnet(self, name: str, maps: list[Tensor]) -> Tensor:
        x = self._conv(f"{name}.mix", torch.cat(_upsampled(maps), 1))
        return self._conv(f"{name}.classify", F.relu(self._batch_norm(f"{name}.norm", x)))

    def _segformer(self, name: str, maps: list[Tensor]) -> Tensor:
        maps = [
            F.conv2d(
                x, self.state[f"{name}.linear.{k}.weight"][:, :, None, None], self.state[f"{name}.linear.{k}.bias"]
            )
            for k, x in enumerate(maps)
        ]
        fine, *coarser = _upsampled(maps)
        x = self._conv(f"{name}.fuse", torch.cat([*coarser[::-1], fine], 1))
        return self._conv(f"{name}.classify", F.relu(self._batch_norm(f"{name}.norm", x)))

    def _aspp(self, name: str, maps: list[Tensor]) -> Tensor:
        x = torch.cat(_upsampled(maps), 1)

        def unit(part: str, x: Tensor, **options: int) -> Tensor:
            return F.relu(self._batch_norm(f"{name}.{part}.norm", self._conv(f"{name}.{part}.conv", x, **options)))

        branches = [unit("branches.0", x)]
        branches += [unit(f"branches.{i}", x, padding=d, dilation=d) for i, d in ((1, 12), (2, 24), (3, 36))]
        pooled = unit("branches.4", F.adaptive_avg_pool2d(x, 1))
        branches.append(pooled.expand(-1, -1, *x.shape[-2:]))
        x = unit("refine", unit("project", torch.cat(branches, 1)), padding=1)
        return self._conv(f"{name}.classify", x)


def _upsampled(maps: list[Tensor]) -> list[Tensor]:
    size = maps[0].shape[-2:]
    return [F.interpolate(x, size, mode="bilinear", align_corners=False) for x in maps]


def _partition(x: Tensor, window: int) -> Tensor:
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, channels)


def _reverse(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    x = windows.reshape(-1, height // window, width // window, window, window, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])


@lru_cache(maxsize=16)
def _positions(tokens: int, device: torch.device) -> Tensor:
    """Row of the position bias table for every two tokens of a window; int64 [N, N]."""
    side = int(tokens**0.5)
    row, column = torch.arange(tokens) // side, torch.arange(tokens) % side
    dy, dx = row[:, None] - row + side - 1, column[:, None] - column + side - 1
    return (dy * (2 * side - 1) + dx).to(device)


@lru_cache(maxsize=16)
def _mask(side: int, window: int, shift: int, device: torch.device) -> Tensor | None:
    """-100 between tokens of a shifted window that were not neighbours in the image; float [windows, N, N]."""
    if shift == 0:
        return None
    zone = torch.tensor([0] * (side - window) + [1] * (window - shift) + [2] * shift)
    zones = (3 * zone[:, None] + zone[None, :])[None, :, :, None].float()
    flat = _partition(zones, window)[..., 0]
    return torch.where(flat[:, :, None] == flat[:, None, :], 0.0, -100.0).to(device)
