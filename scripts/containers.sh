# Sourced by image_check.sh and compose_check.sh: a container engine, a base image, and the machine's pip configuration.
# With Docker's daemon this is `docker`. Without it, on Debian as root, it is buildah, podman and runc from apt; and where no
# image registry can be reached, the base image is made from Debian's own packages. BASE_IMAGE and TORCH_INDEX overrule; BUILD=0 takes the image that is there.
# shellcheck shell=bash

WORK=$(mktemp -d)
PIP_VOLUMES=()

say() { printf '== %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

choose_engine() {
    if docker info >/dev/null 2>&1; then
        ENGINE=docker
    elif command -v podman >/dev/null && command -v buildah >/dev/null && command -v runc >/dev/null; then
        ENGINE=podman
        configure_podman
    else
        die "needs Docker, or: apt-get install --no-install-recommends buildah podman runc netavark aardvark-dns iptables mmdebstrap"
    fi
    say "engine: $ENGINE"
}

# Without systemd and without a container-tools package of its own, a machine has no defaults that work: these do.
configure_podman() {
    cat > "$WORK/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
    export CONTAINERS_CONF=$WORK/containers.conf
}

choose_base() {
    BASE_IMAGE=${BASE_IMAGE:-python:3.11-slim}
    [ "$ENGINE" = docker ] && return
    podman image exists "$BASE_IMAGE" && return
    podman pull --quiet "docker.io/library/$BASE_IMAGE" >/dev/null 2>&1 && return
    BASE_IMAGE=localhost/python-debian:3.11
    podman image exists "$BASE_IMAGE" && return
    command -v mmdebstrap >/dev/null || die "no registry answers; to make a base image: apt-get install mmdebstrap"
    say "no registry answers: making a base image of Debian bookworm"
    local site
    site=$(apt-get indextargets --format '$(SITE) $(CODENAME)' | awk '$2 == "bookworm" {print $1; exit}')
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-pip,python3-dev,ca-certificates \
        --aptopt='Apt::Install-Recommends "false"' \
        --customize-hook='rm -f "$1"/usr/lib/python3.11/EXTERNALLY-MANAGED; ln -sf python3 "$1"/usr/bin/python' \
        bookworm "$WORK/base.tar" "deb $site bookworm main"
    podman import --quiet --change CMD=python3 --change ENV=LANG=C.UTF-8 "$WORK/base.tar" "$BASE_IMAGE" >/dev/null
    rm -f "$WORK/base.tar"
}

# pip inside the build sees what pip outside sees: its settings, the folders they name, the certificates.
share_pip() {
    local file path
    for file in /etc/xdg/pip/pip.conf /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
        if [ -f "$file" ]; then cat "$file" >> "$WORK/pip.conf"; fi
    done
    [ -f "$WORK/pip.conf" ] || return 0
    python3 - "$WORK/pip.conf" <<'PY'
import configparser, pathlib, sys
merged = configparser.ConfigParser(strict=False, interpolation=None)
merged.read(sys.argv[1])
with pathlib.Path(sys.argv[1]).open("w") as out:
    merged.write(out)
PY
    PIP_VOLUMES=(--volume "$WORK/pip.conf:/etc/pip.conf:ro")
    for path in $(grep -oE '(file://)?/[^ ,]+' "$WORK/pip.conf" | sed 's#^file://##; s#/simple/*$##' | sort -u); do
        if [ -e "$path" ]; then PIP_VOLUMES+=(--volume "$path:$path:ro"); fi
    done
}

choose_torch_index() {
    if [ -z "${TORCH_INDEX:-}" ] && ! curl -sfo /dev/null -m 10 https://download.pytorch.org/whl/cpu/; then
        TORCH_INDEX=$(python3 -m pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple)
        say "PyTorch's own index does not answer: torch comes from the index of this machine"
    fi
}

build_image() { # NAME
    local version revision args
    version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' mtlora/version.py)
    revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
    args=(--build-arg "BASE_IMAGE=$BASE_IMAGE" --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
    # buildah 1.28 takes a LABEL from its cache even if the arguments in it changed.
    args+=(--label "org.opencontainers.image.version=$version" --label "org.opencontainers.image.revision=$revision")
    if [ -n "${TORCH_INDEX:-}" ]; then args+=(--build-arg "TORCH_INDEX=$TORCH_INDEX"); fi
    if [ "$ENGINE" = docker ]; then
        docker build --quiet "${args[@]}" --tag "$1" . >/dev/null
    else
        buildah build --quiet --isolation chroot --format docker --layers --pull-never "${PIP_VOLUMES[@]}" "${args[@]}" --tag "$1" . >/dev/null
    fi
}

prepare_image() { # NAME
    choose_engine
    choose_base
    if [ "${BUILD:-1}" = 0 ]; then return; fi
    share_pip
    choose_torch_index
    say "building $1 from $BASE_IMAGE"
    build_image "$1"
}
