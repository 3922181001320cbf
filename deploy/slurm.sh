#!/usr/bin/env bash
#SBATCH --job-name=barsweep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#
# Runs a study on all cores of a Slurm job, or goes on with it:
#   sbatch deploy/slurm.sh study.toml out/mine
# The study file has [workers] backend = "dask" and address = "tcp://SCHEDULER". The first node
# needs the folder of the study; the others need barsweep[dask] of the same versions, and no common disk.
set -euo pipefail
study=$1 out=$2
host=${SCHEDULER_HOST:-$(hostname)}
port=${SCHEDULER_PORT:-8786}

started=()
trap 'kill "${started[@]}" 2>/dev/null || true' EXIT
dask scheduler --host "$host" --port "$port" --no-dashboard &
started+=($!)
srun --kill-on-bad-exit=0 dask worker "tcp://$host:$port" \
    --nworkers "${SLURM_CPUS_PER_TASK:-1}" --nthreads 1 --no-dashboard &
started+=($!)
python -c 'import sys; from distributed import Client
Client(sys.argv[1], timeout=120).wait_for_workers(1, timeout=600)' "tcp://$host:$port"

own="${study%.toml}.slurm.toml" # one name for all jobs: `resume` reads the address from it
sed "s#tcp://SCHEDULER#tcp://$host:$port#" "$study" > "$own"
if [ -f "$out/study.json" ]; then
    barsweep resume "$out"
else
    barsweep run "$own" --out "$out"
fi
