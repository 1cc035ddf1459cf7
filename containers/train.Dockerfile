# Training image of one challenge: NVIDIA's PyTorch with the kit. The tag's default equals versions.env (a test says so).
ARG PYTORCH_IMAGE=nvcr.io/nvidia/pytorch:26.07-py3@sha256:2140e699b3beaf7f96a0081fd9c9406bc3832b435cdb60dfa2d261f7d2f34a1c
FROM ${PYTORCH_IMAGE}

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=kit \
    CHALLENGE_KIT_CACHE=/opt/kit/runs/.cache
WORKDIR /opt/kit

# What the image lacks changes seldom: a layer of its own, before the sources.
COPY pyproject.toml README.md LICENSE ./
COPY locked locked
COPY containers/install.py containers/
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_CACHE_DIR=/root/.cache/pip python3 containers/install.py dependencies

COPY common common
COPY challenges challenges
COPY benchmarks benchmarks
COPY containers containers
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_CACHE_DIR=/root/.cache/pip python3 containers/install.py kit \
    && mkdir -p runs \
    && chmod 0777 runs

ARG CHALLENGE=classification
ARG COMMIT=""
RUN printf '%s\n' "${COMMIT}" > COMMIT \
    && test -d "challenges/${CHALLENGE}"
LABEL org.opencontainers.image.title="challenge-kit training: ${CHALLENGE}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"

USER 1000:1000
CMD ["kit", "--help"]
