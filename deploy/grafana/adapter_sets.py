"""Dashboard: which adapter sets are used, are they in memory when asked for, and do they fit?"""

from deploy.grafana.panels import JOB, Board, Panel, quantile, rate, series, stacked, stat

ON_DISK = 'tier="disk"'
ON_DEVICE = 'tier="device"'
FAILED = 'result="error"'

SKIPPED = 'state="skipped"'
NOW = (
    stat(
        "Sets known",
        "short",
        f"max({series('mtlora_adapters', ON_DISK)})",
        "Revisions on disk, bundled ones included.",
    ),
    stat(
        "Sets on the device",
        "short",
        f"sum({series('mtlora_adapters', ON_DEVICE)})",
        "Ready to run, over all instances.",
    ),
    stat(
        "Memory",
        "percentunit",
        f"max({series('instance:mtlora_adapter_memory:ratio', ON_DEVICE)})",
        "Share of the device memory that sets may take, fullest instance. A full cache is normal; see the runbook.",
        0.9,
    ),
    stat(
        "Cold requests",
        "percentunit",
        f"job:mtlora_cold_requests:ratio_rate15m{{{JOB}}}",
        "Share that waits for a load. Alert above 20 %.",
        0.2,
    ),
    stat(
        "Evictions per image",
        "short",
        f"job:mtlora_evictions_per_image:ratio_rate15m{{{JOB}}}",
        "For want of room. Alert above 0.1.",
        0.1,
    ),
    stat(
        "Failed loads",
        "short",
        f"sum(increase({series('mtlora_adapter_loads_total', FAILED)}[1h]))",
        "In the last hour.",
        1.0,
    ),
)

USE = (
    stacked(
        "Images by set",
        "ops",
        {"{{adapter}}": rate("mtlora_images_total", "adapter")},
        "The busiest sets by name, the rest as `other` (MTLORA_METRIC_ADAPTERS).",
        width=12,
    ),
    stacked(
        "Share by set",
        "percentunit",
        {
            "{{adapter}}": f"{rate('mtlora_images_total', 'adapter')} "
            f"/ on () group_left () ({rate('mtlora_images_total')} > 0)"
        },
        "Of the images answered.",
        width=12,
    ),
)

COMPUTE = (
    Panel(
        "Mean share by set",
        "percentunit",
        {
            "{{adapter}}": f"{rate('mtlora_images_computed_total', 'adapter')} "
            f"/ {rate('mtlora_images_total', 'adapter')}",
        },
        "Of the encoder that was computed. 100 %: no budget was asked for.",
    ),
    stacked(
        "Shares that the server chose",
        "ops",
        {"lowered: {{lowered}}": rate("mtlora_compute_open_total", "lowered")},
        "Images with a range or `auto`. Lowered while the queue is long (MTLORA_CALM_WAIT_MS).",
    ),
    Panel(
        "Blocks skipped",
        "percentunit",
        {
            "stage {{stage}}": f"{rate('mtlora_gated_blocks_total', 'stage', SKIPPED)} "
            f"/ {rate('mtlora_gated_blocks_total', 'stage')}"
        },
        "Of images with a budget; windows count as parts of their block.",
    ),
    Panel(
        "Time saved",
        "percentunit",
        {"of an engine": rate("mtlora_compute_saved_seconds_total")},
        "What whole passes would have taken more, estimated.",
    ),
)

RESIDENCY = (
    stacked(
        "Was the set on the device?",
        "reqps",
        {
            "on the device": rate("mtlora_adapter_cache_hits_total"),
            "waited for a load": rate("mtlora_adapter_cache_misses_total"),
        },
        "Requests, by whether they found their set ready to run.",
    ),
    Panel(
        "Time to load",
        "s",
        {f"p{q} {{{{tier}}}}": quantile(q / 100, "mtlora_adapter_load_seconds", "tier") for q in (50, 95)},
        "From one tier into the next.",
    ),
    Panel(
        "Loads",
        "ops",
        {"{{tier}} {{result}}": rate("mtlora_adapter_loads_total", "tier, result")},
        "By tier and result.",
    ),
    Panel(
        "Evictions",
        "ops",
        {"{{tier}} {{reason}}": rate("mtlora_adapter_evictions_total", "tier, reason")},
        "`room`: for want of it. `unload`, `delete`: on demand.",
    ),
    Panel("Sets by tier", "short", {"{{tier}}": f"sum by (tier) ({series('mtlora_adapters')})"}, "Revisions."),
    Panel(
        "Bytes by tier",
        "bytes",
        {
            "{{tier}}": f"sum by (tier) ({series('mtlora_adapter_bytes')})",
            "budget {{tier}}": f"sum by (tier) ({series('mtlora_adapter_budget_bytes')})",
        },
        "Files on disk, tensors in memory, and what these may take.",
    ),
)

BOARD = Board(
    "mtlora-adapters",
    "MTLoRA: adapter sets",
    "Which sets are used, are they in memory when asked for, and do they fit?",
    {"Now": NOW, "Use": USE, "Compute": COMPUTE, "Residency": RESIDENCY},
)
