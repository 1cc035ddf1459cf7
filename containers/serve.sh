#!/bin/sh
# Start Triton on a model repository that nobody may change: models are loaded once, administrative endpoints ask for a
# key that no request can carry, since the machine's users read it in the process list: an empty line ends HTTP's headers,
# and HTTP/2 knows no capital letters in a header's name. A model that does not load ends the server.
set -eu
restricted="model-repository,model-config,shared-memory,statistics,trace,logging:Closed=to

all"
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
