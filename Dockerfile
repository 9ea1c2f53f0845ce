# docker build -t mtlora-server .                                                         torch for CPUs
# docker build -t mtlora-server --build-arg TORCH_INDEX=https://pypi.org/simple .         torch for CUDA
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS builder
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && python -m venv --without-pip /opt/venv
# torch alone from its own index, which has nothing else that we trust to be current; all others as usual.
COPY constraints.txt ./
RUN python -m pip --python /opt/venv/bin/python install --no-deps --constraint constraints.txt \
    --index-url "${TORCH_INDEX}" torch torchvision
# What the project needs, before the project itself: a change of code does not install torch again.
COPY pyproject.toml ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['otel'], *project['optional-dependencies']['grpc'], sep='\n')" > requirements.txt \
    && python -m pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE setup.py ./
COPY mtlora mtlora
COPY app app
# `mtlora --version` says it; the build context has no .git to ask.
ARG REVISION=unknown
RUN REVISION="${REVISION}" python -m pip --python /opt/venv/bin/python install --no-deps .

FROM ${BASE_IMAGE}
COPY --from=builder /opt/venv /opt/venv
COPY adapters /opt/mtlora/adapters
# Sets and keys live here. It belongs to the user; a volume mounted there for the first time takes its owner from it.
RUN install -d -o 10001 -g 10001 /var/lib/mtlora
# Allocator and OpenMP as docs/settings.md has them; set here, the server need not start itself a second time.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MALLOC_MMAP_MAX_=0 \
    MALLOC_TRIM_THRESHOLD_=17179869184 \
    MALLOC_TOP_PAD_=268435456 \
    MALLOC_ARENA_MAX=1 \
    GOMP_SPINCOUNT=10000 \
    MTLORA_ADAPTERS=/opt/mtlora/adapters \
    MTLORA_STORE=/var/lib/mtlora/store
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mtlora-server" \
      org.opencontainers.image.description="One frozen vision backbone with many MTLoRA adapter sets, served over HTTP" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
VOLUME /var/lib/mtlora
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('MTLORA_PORT', '8000') + '/readyz', timeout=4)"]
ENTRYPOINT ["mtlora", "serve"]
