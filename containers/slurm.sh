#!/bin/bash
# One run on the GPUs of a Slurm cluster whose nodes have Docker and NVIDIA's container toolkit; a requeued job resumes:
#   sbatch --nodes 2 --gpus-per-node 8 containers/slurm.sh resnet50/imagenet-90e /data
# The image is one that `make trainer1` built on every node, or IMAGE; runs/ is where the job is submitted, on a shared disk.
#SBATCH --job-name=challenge-kit
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail
if [ -z "${SLURM_STEP_ID:-}" ]; then
  MAIN=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1)
  export MAIN
  mkdir -p runs
  exec srun --kill-on-bad-exit=1 "$0" "$@"
fi
export MODEL="${1%%/*}" RECIPE="${1#*/}" DATA="${2:-}"
NODES=$SLURM_NNODES RANK=$SLURM_NODEID GPUS=$SLURM_GPUS_ON_NODE
inside() {
  exec docker run --rm --init --gpus all --network host --ipc host --ulimit memlock=-1 --user "$(id -u):$(id -g)" \
    --mount "type=bind,source=$PWD/runs,target=/opt/kit/runs" \
    ${DATA:+--mount "type=bind,source=$DATA,target=$DATA,readonly"} \
    "${IMAGE:-challenge-kit/train-classification:0.1.0}" "$@"
}
inside \
  torchrun --nnodes "$NODES" --node-rank "$RANK" --nproc-per-node "$GPUS" --master-addr "$MAIN" --master-port 29500 \
  -m -- challenges train "$MODEL/$RECIPE" ${DATA:+--data "$DATA"}
