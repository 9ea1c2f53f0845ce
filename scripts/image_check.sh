#!/usr/bin/env bash
# Build the image and see that it does what docs/deployment.md promises. Needs Docker, or on Debian as root: buildah, podman, runc.
#   scripts/image_check.sh            IMAGE, PORT, BASE_IMAGE, TORCH_INDEX overrule; KEEP=1 leaves the image there
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/containers.sh
. scripts/containers.sh

IMAGE=${IMAGE:-localhost/mtlora-server:check}
PORT=${PORT:-18040}
URL=http://127.0.0.1:$PORT
NAME=mtlora-check-$$
STORE=$NAME-store
PHOTO=docs/samples/astronaut.jpg

tidy() {
    "$ENGINE" rm -f "$NAME" >/dev/null 2>&1 || true
    "$ENGINE" volume rm -f "$STORE" >/dev/null 2>&1 || true
    if [ "${KEEP:-0}" != 1 ]; then "$ENGINE" rmi "$IMAGE" >/dev/null 2>&1 || true; fi
    rm -rf "$WORK"
}

start() { # as little as the server may have: read-only root, no capabilities, no new privileges
    "$ENGINE" run -d --name "$NAME" --network host --read-only --tmpfs /tmp --cap-drop=all --security-opt no-new-privileges \
        --no-healthcheck --volume "$STORE:/var/lib/mtlora" --env "MTLORA_PORT=$PORT" "$IMAGE" >/dev/null
    for _ in $(seq 300); do
        curl -sf "$URL/readyz" >/dev/null && return
        sleep 1
    done
    "$ENGINE" logs "$NAME" >&2
    die "not ready within 300 s"
}

inside() { "$ENGINE" exec "$NAME" "$@"; }
predict() {
    curl -s -o "$WORK/map.png" -w '%{http_code}' --data-binary @$PHOTO -H 'Content-Type: image/jpeg' \
        "$URL/predict?tasks=semseg&format=png"
}
label() { "$ENGINE" image inspect "$IMAGE" --format "{{index .Config.Labels \"org.opencontainers.image.$1\"}}"; }

check_image() {
    [ -n "$(label title)" ] && [ -n "$(label licenses)" ] || die "the labels are missing"
    [ "$(label version)" = "$(sed -n 's/^__version__ = "\(.*\)"/\1/p' mtlora/version.py)" ] || die "label version is '$(label version)'"
    "$ENGINE" image inspect "$IMAGE" --format '{{json .}}' | grep -q '/readyz' || die "the health check does not ask /readyz"
    say "labels and health check: version $(label version), revision $(label revision)"
}

check_inside() {
    [ "$(inside id -u)" = 10001 ] || die "runs as $(inside id -un)"
    if inside touch /opt/mtlora/adapters/x 2>/dev/null; then die "the bundled sets can be written"; fi
    for tool in gcc g++ cc c++ make ld; do
        if inside sh -c "command -v $tool" >/dev/null; then die "$tool is in the final stage"; fi
    done
    inside sh -c 'tr "\0" "\n" < /proc/1/environ' | grep -qx 'MALLOC_MMAP_MAX_=0' || die "the allocator setting is missing"
    inside python -c "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['MTLORA_PORT'] + '/readyz')"
    [ -n "$(inside python -c 'from mtlora.kernels import status; print(status().instruction_set)')" ] || die "no native kernels"
    say "user 10001, read-only, no build tools, allocator set, native kernels, health check passes"
}

check_serving() {
    predict > "$WORK/status"
    [ "$(cat "$WORK/status")" = 200 ] || die "the default set answers $(cat "$WORK/status")"
    [ "$(head -c 4 "$WORK/map.png" | tail -c 3)" = PNG ] || die "the default set's map is no PNG"
    curl -sf -F file=@adapters/people.safetensors -F name=uploaded "$URL/adapters" >/dev/null || die "an upload was refused"
    say "the bundled set answers; an upload is taken"
}

check_stop() { # one request is on its way when the signal comes
    predict > "$WORK/status" &
    local request=$!
    until [ "$(metric mtlora_queue_images)" = 1.0 ] || ! kill -0 "$request" 2>/dev/null; do :; done
    "$ENGINE" stop -t 60 "$NAME" >/dev/null
    wait "$request"
    [ "$(cat "$WORK/status")" = 200 ] || die "the request under way got $(cat "$WORK/status")"
    local code
    code=$("$ENGINE" inspect "$NAME" --format '{{.State.ExitCode}}')
    [ "$code" = 0 ] || die "exit status $code after SIGTERM"
    "$ENGINE" rm "$NAME" >/dev/null
    say "SIGTERM: the request under way is answered, exit status 0"
}

metric() { curl -s "$URL/metrics" | awk -v name="$1" '$1 == name {print $2}'; }

prepare_image "$IMAGE"
trap tidy EXIT
check_image
start
check_inside
check_serving
check_stop
start
curl -sf "$URL/adapters/uploaded" >/dev/null || die "the uploaded set is gone after a restart"
say "the uploaded set is still there after a restart"
"$ENGINE" stop -t 60 "$NAME" >/dev/null
say "all well: $IMAGE, $("$ENGINE" image inspect "$IMAGE" --format '{{.Size}}' | numfmt --to=si)B"
