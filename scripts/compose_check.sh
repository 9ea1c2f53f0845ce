#!/usr/bin/env bash
# Bring the Compose stack up and see it work: the server answers, Prometheus scrapes it by name, with and without API keys,
# and an alert reaches Alertmanager when the server stops.
# Needs Docker with Compose, or on Debian as root what image_check.sh needs and podman-compose. Where no registry answers,
# Prometheus and Alertmanager come from Debian's packages, and Grafana is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/containers.sh
. scripts/containers.sh

export STACK_IMAGE=${STACK_IMAGE:-localhost/mtlora-server:check} STACK_PORT=18050
export STACK_PROMETHEUS_PORT=18051 STACK_ALERTMANAGER_PORT=18052 STACK_GRAFANA_PORT=18053
URL=http://127.0.0.1:$STACK_PORT
SERVICES=(mtlora prometheus alertmanager grafana)
FILES=(-f "$WORK/deploy/compose.yaml")
PHOTO=docs/samples/astronaut.jpg

compose() { "${COMPOSE[@]}" -p mtlora-check "${FILES[@]}" "$@"; }

up() { compose up -d "${SERVICES[@]}" >"$WORK/up.log" 2>&1 || { cat "$WORK/up.log" >&2; return 1; }; }

tidy() {
    [ "${KEEP:-0}" = 1 ] && return
    compose down --volumes >/dev/null 2>&1 || true
    rm -rf "$WORK"
}

choose_compose() {
    if [ "$ENGINE" = docker ]; then COMPOSE=(docker compose); return; fi
    PATH=$PWD/.venv/bin:$PATH
    command -v podman-compose >/dev/null || die "needs podman-compose: pip install podman-compose"
    COMPOSE=(podman-compose)
    podman pull --quiet docker.io/prom/prometheus:latest >/dev/null 2>&1 && return
    say "no registry answers: Prometheus and Alertmanager from Debian, Grafana left out"
    SERVICES=(mtlora prometheus alertmanager)
    export STACK_PROMETHEUS_IMAGE=localhost/debian-prometheus STACK_ALERTMANAGER_IMAGE=localhost/debian-alertmanager
    debian_image "$STACK_PROMETHEUS_IMAGE" prometheus prometheus /prometheus
    debian_image "$STACK_ALERTMANAGER_IMAGE" prometheus-alertmanager prometheus-alertmanager /alertmanager
}

debian_image() { # NAME PACKAGE PROGRAM STATE_FOLDER
    podman image exists "$1" && return
    printf 'FROM %s\nRUN apt-get update && apt-get install -y --no-install-recommends %s && install -d -o nobody %s\nUSER nobody\nENTRYPOINT ["%s"]\n' \
        "$BASE_IMAGE" "$2" "$4" "$3" > "$WORK/Containerfile"
    buildah build --quiet --isolation chroot --format docker --pull-never --tag "$1" -f "$WORK/Containerfile" "$WORK" >/dev/null
}

await() { # SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $end ] || { compose logs --tail 30 >&2 || true; die "not within the time: $what"; }
        sleep 1
    done
    say "$what"
}

ready() { curl -sf "$URL/readyz" >/dev/null; }
ask() { curl -sf "http://127.0.0.1:$STACK_PROMETHEUS_PORT/api/v1/query" --data-urlencode "query=$1"; }
answers() { ask "$1" 2>/dev/null | grep -q '"value"'; }
status() { curl -s -o /dev/null -w '%{http_code}' --data-binary @$PHOTO -H 'Content-Type: image/jpeg' "$@" "$URL/predict?tasks=semseg"; }
alerting() { curl -sf "http://127.0.0.1:$STACK_PROMETHEUS_PORT/api/v1/alertmanagers" | grep -q 'alertmanager:9093'; }
told() { curl -sf "http://127.0.0.1:$STACK_ALERTMANAGER_PORT/api/v2/alerts" | grep -q "\"alertname\":\"$1\""; }
# podman-compose says the container's id first
new_key() { compose run --rm -T --no-deps --entrypoint mtlora mtlora keys new "$1" --scopes "$2" 2>/dev/null | tail -n 1 | tr -d "\r"; }

prepare_image "$STACK_IMAGE"
choose_compose
trap tidy EXIT
cp -r deploy "$WORK/deploy" # secrets are written here, not into the working tree

up || die "the stack does not come up"
await 300 "the server is ready" ready
[ "$(status)" = 200 ] || die "a prediction got $(status)"
await 60 "Prometheus scrapes mtlora:8000 by name" answers 'up{job="mtlora", instance="mtlora:8000"} == 1 and on () mtlora_ready == 1'
await 60 "Prometheus has counted the prediction" answers 'sum(mtlora_requests_total{format="json", code="200"}) >= 1'
await 60 "the rules are evaluated" answers 'instance:mtlora_queue_saturation:avg5m'
await 60 "Prometheus knows Alertmanager" alerting
compose stop mtlora >/dev/null 2>&1
await 300 "the server is stopped, and the alert MTLoRADown is at Alertmanager" told MTLoRADown
compose down >/dev/null 2>&1

say "now with keys"
FILES+=(-f "$WORK/deploy/compose.keys.yaml")
mkdir "$WORK/deploy/secrets"
new_key prometheus metrics > "$WORK/deploy/secrets/metrics-key"
key=$(new_key camera predict)
up || die "the stack with keys does not come up"
await 300 "the server is ready" ready
[ "$(status)" = 401 ] || die "a prediction without a key got $(status)"
[ "$(status -H "Authorization: Bearer $key")" = 200 ] || die "a prediction with a key got $(status -H "Authorization: Bearer $key")"
say "401 without a key, 200 with one"
await 60 "Prometheus scrapes with its key" answers 'up{job="mtlora"} == 1 and on () (time() - timestamp(up{job="mtlora"}) < 30)'
"${COMPOSE[@]}" -p mtlora-check "${FILES[@]}" exec -T mtlora mtlora keys revoke camera >/dev/null 2>&1
revoked() { [ "$(status -H "Authorization: Bearer $key")" = 401 ]; }
await 10 "a revoked key is refused while the server runs" revoked
say "all well"
