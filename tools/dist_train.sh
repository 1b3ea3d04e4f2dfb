#!/usr/bin/env bash
# dist_train.sh CONFIG GPUS [arguments of train.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT place the job among several machines. Without a GPU, GPUS is a number of
# processes, which talk over gloo.
set -euo pipefail

GPUS=${2:?usage: dist_train.sh CONFIG GPUS [arguments of train.py]}
CONFIG=$1
TOOLS=$(dirname "$0")

PYTHONPATH="$TOOLS/..:${PYTHONPATH:-}" \
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --nproc_per_node="$GPUS" \
    --master_port="${PORT:-29500}" \
    "$TOOLS/train.py" "$CONFIG" --launcher pytorch "${@:3}"
