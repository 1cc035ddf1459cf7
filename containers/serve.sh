#!/bin/sh
# Start Triton on a model repository that nobody may change: models are loaded once, administrative endpoints ask for a
# key that is in KIT_ADMIN_KEY or known to nobody, and a model that does not load ends the server.
set -eu
key="${KIT_ADMIN_KEY:-$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')}"
restricted="model-repository,model-config,shared-memory,statistics,trace,logging:admin-key=${key}"
exec tritonserver \
    --model-repository=/models \
    --model-control-mode=none \
    --disable-auto-complete-config \
    --exit-on-error=true \
    --strict-readiness=true \
    --exit-timeout-secs=30 \
    --http-restricted-api="${restricted}" \
    --grpc-restricted-protocol="${restricted}" \
    --metrics-config=summary_latencies=true \
    "$@"
