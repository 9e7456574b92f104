#!/bin/sh
# The first GPU: zero-shot figures, timings, the paper's B/32 row from three seeds, MTEB. Repeat the command to go on.
#
#     runs/first_gpu.sh --annotations MSRVTT --videos MSRVTT/videos --output first-gpu --price-per-hour 2.50
#     runs/first_gpu.sh --tiny --output /tmp/tried    # all of it on stand-in clips, on a CPU
here=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" "$here/first_gpu.py" "$@"
