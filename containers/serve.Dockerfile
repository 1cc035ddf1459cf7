# Serving image of one challenge: NVIDIA's Triton, a start script and a health check; nothing is installed. The model
# repository is mounted at /models. The tag's default equals versions.env (a test says so).
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.07-py3
FROM ${TRITON_IMAGE}

ENV PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /opt/kit
COPY --chmod=0555 containers/serve.sh containers/ready.py containers/
RUN mkdir -p /models

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
