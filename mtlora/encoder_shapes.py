"""Names and shapes of a Swin encoder's tensors, in timm's naming. Pure: neither torch nor timm is imported."""

from mtlora.spec import IN_CHANNELS, PATCH_SIZE, BackboneSpec


def encoder_shapes(spec: BackboneSpec) -> dict[str, tuple[int, ...]]:
    """Every tensor of an encoder but the position bias tables, whose shape depends on the input side."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (spec.embed_dim, IN_CHANNELS, PATCH_SIZE, PATCH_SIZE),
        "patch_embed.proj.bias": (spec.embed_dim,),
        "patch_embed.norm.weight": (spec.embed_dim,),
        "patch_embed.norm.bias": (spec.embed_dim,),
    }
    for stage, (dim, depth) in enumerate(zip(spec.stage_dims, spec.depths, strict=True)):
        hidden = int(dim * spec.mlp_ratio)
        if stage > 0:
            shapes[f"layers.{stage}.downsample.norm.weight"] = (2 * dim,)
            shapes[f"layers.{stage}.downsample.norm.bias"] = (2 * dim,)
            shapes[f"layers.{stage}.downsample.reduction.weight"] = (dim, 2 * dim)
        for block in range(depth):
            prefix = f"layers.{stage}.blocks.{block}."
            sizes = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim)}
            sizes |= {"mlp.fc1": (hidden, dim), "mlp.fc2": (dim, hidden)}
            for linear, (rows, columns) in sizes.items():
                shapes[f"{prefix}{linear}.weight"] = (rows, columns)
                shapes[f"{prefix}{linear}.bias"] = (rows,)
            for norm in ("norm1", "norm2"):
                shapes[f"{prefix}{norm}.weight"] = (dim,)
                shapes[f"{prefix}{norm}.bias"] = (dim,)
    return shapes


def table_names(spec: BackboneSpec) -> list[str]:
    """Names of the relative position bias tables; the stage is the second part of each."""
    return [
        f"layers.{stage}.blocks.{block}.attn.relative_position_bias_table"
        for stage, depth in enumerate(spec.depths)
        for block in range(depth)
    ]
