# Serving image of one challenge: NVIDIA's Triton, a start script and a health check. Only for recommendation something is
# installed: a click model's first step is the function that prepared its training rows, which needs Polars. The model
# repository is mounted at /models. The tag's default equals versions.env (a test says so).
ARG CHALLENGE=classification
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.07-py3
FROM ${TRITON_IMAGE} AS triton

ENV PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /opt/kit
COPY --chmod=0555 containers/serve.sh containers/ready.py containers/
RUN mkdir -p /models

FROM triton AS classification

FROM triton AS detection

FROM triton AS recommendation
COPY locked/kit.txt locked/
COPY containers/install.py containers/
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_CACHE_DIR=/root/.cache/pip python3 containers/install.py transform
# The stub looks for modules beside its backend. What the function imports, and nothing else (a test says so).
WORKDIR /opt/tritonserver/backends/python
COPY common/__init__.py common/errors.py common/files.py common/
COPY challenges/__init__.py challenges/
COPY challenges/recommendation/__init__.py challenges/recommendation/
COPY challenges/recommendation/clicks/__init__.py challenges/recommendation/clicks/answers.py \
    challenges/recommendation/clicks/hashing.py challenges/recommendation/clicks/spec.py \
    challenges/recommendation/clicks/transform.py challenges/recommendation/clicks/vocabulary.py \
    challenges/recommendation/clicks/
WORKDIR /opt/kit

# hadolint ignore=DL3006
FROM ${CHALLENGE}
ARG CHALLENGE=classification
ARG COMMIT=""
LABEL org.opencontainers.image.title="challenge-kit serving: ${CHALLENGE}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"

EXPOSE 8000 8001 8002
VOLUME ["/models"]
STOPSIGNAL SIGTERM
USER 1000:1000
HEALTHCHECK --interval=15s --timeout=12s --start-period=300s --retries=3 \
    CMD ["python3", "/opt/kit/containers/ready.py", "--timeout", "10"]
CMD ["/opt/kit/containers/serve.sh"]
