"""Dashboard: is it up, is it quick, is it full, and where does the time go?"""

from deploy.grafana.panels import JOB, WINDOW, Board, Panel, mean, quantile, rate, series, stacked, stat

PREDICTIONS = 'format!="other"'
ALLOWED_SLOW = 0.05  # share of predictions, as in the burn alerts

NOW = (
    stat("Ready", "short", f"sum({series('mtlora_ready')})", "Instances that take requests."),
    stat("Predictions", "reqps", rate("mtlora_requests_total", more=PREDICTIONS), "Answered or refused."),
    stat(
        "Errors",
        "percentunit",
        f"job:mtlora_prediction_errors:ratio_rate5m{{{JOB}}}",
        "Share of predictions that end in a 5xx. Alert above 2 %.",
        0.02,
    ),
    stat(
        "95th percentile",
        "s",
        f"job:mtlora_request_seconds:p95_rate5m{{{JOB}}}",
        "Of the time to the answer. Objective: under 1 s.",
        1.0,
    ),
    stat(
        "Queue filled",
        "percentunit",
        f"max({series('instance:mtlora_queue_saturation:avg5m')})",
        "Fullest queue, five-minute average. Alert above 80 %.",
        0.8,
    ),
    stat(
        "Alerts",
        "short",
        'count(ALERTS{alertname=~"MTLoRA.+", alertstate="firing"}) or vector(0)',
        "Firing now; the runbooks are in docs/operations.md.",
        1.0,
    ),
)

REQUESTS = (
    stacked(
        "Predictions by status",
        "reqps",
        {"{{code}}": rate("mtlora_requests_total", "code", PREDICTIONS)},
        "429: queue full. 503: starting or draining. 504: deadline passed. 499: the client left.",
    ),
    Panel(
        "Latency",
        "s",
        {f"p{q}": quantile(q / 100, "mtlora_request_seconds") for q in (50, 95, 99)},
        "From the request's head to the end of the answer.",
        warn_at=1.0,
    ),
    Panel(
        "Burn rate",
        "short",
        {w: f"job:mtlora_slow_predictions:ratio_rate{w}{{{JOB}}} / {ALLOWED_SLOW}" for w in ("5m", "30m", "1h", "6h")},
        "How many times faster than allowed slow predictions come. Alerts: 14.4 over 5m and 1h, 6 over 30m and 6h.",
        warn_at=14.4,
    ),
    Panel(
        "Distribution of latency",
        "s",
        {"{{le}}": f"sum by (le) (increase({series('mtlora_request_seconds_bucket')}[{WINDOW}]))"},
        "Predictions per bucket.",
        "heatmap",
    ),
    stacked(
        "Answers by format",
        "reqps",
        {"{{format}}": rate("mtlora_requests_total", "format", f'{PREDICTIONS}, code=~"2.."')},
        "What clients ask for.",
    ),
    stacked(
        "Refused or given up",
        "reqps",
        {"{{reason}}": rate("mtlora_rejected_total", "reason")},
        "Requests that got no answer of the model, by reason.",
    ),
)

TIME = (
    Panel(
        "Time by stage, 95th percentile",
        "s",
        {"{{stage}}": quantile(0.95, "mtlora_stage_seconds", "stage")},
        "What one image spends in each stage.",
    ),
    stacked(
        "Time by stage, all images together",
        "short",
        {"{{stage}}": rate("mtlora_stage_seconds_sum", "stage")},
        "Seconds spent per second: the thickest stage is where work runs or waits.",
    ),
    stacked(
        "Maps by task",
        "ops",
        {"{{task}}": rate("mtlora_task_outputs_total", "task")},
        "Only tasks that were asked for are computed.",
    ),
)

QUEUE = (
    Panel(
        "Queue",
        "short",
        {"{{instance}}": series("mtlora_queue_images"), "limit": f"max({series('mtlora_queue_limit_images')})"},
        "Images admitted and not answered yet; at the limit begins 429.",
    ),
    Panel(
        "Micro-batches",
        "short",
        {"images": mean("mtlora_batch_images"), "adapter sets": mean("mtlora_batch_adapters")},
        "Mean number in one.",
    ),
    Panel(
        "Requests being answered",
        "short",
        {"{{instance}}": series("mtlora_inflight_requests")},
        "Of every kind, probes and uploads too.",
    ),
)

PROCESS = (
    Panel("Memory", "bytes", {"{{instance}}": series("process_resident_memory_bytes")}, "Resident bytes."),
    Panel(
        "Cores in use",
        "short",
        {"{{instance}}": rate("process_cpu_seconds_total", "instance")},
        "CPU seconds per second.",
    ),
    Panel(
        "Versions",
        "short",
        {
            "{{version}}, torch {{torch}}, {{backbone}}": "count by (version, torch, backbone) "
            f"({series('mtlora_build_info')})"
        },
        "Instances by what they run: two lines while an upgrade lasts.",
    ),
)

BOARD = Board(
    "mtlora-service",
    "MTLoRA: service overview",
    "Is it up, is it quick, is it full, and where does the time go?",
    {
        "Now": NOW,
        "Requests": REQUESTS,
        "Where the time goes": TIME,
        "Queue and micro-batches": QUEUE,
        "Process": PROCESS,
    },
)
