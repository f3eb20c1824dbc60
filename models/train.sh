#!/bin/sh
# All three stages, from the shipped weights, in MINUTES on the best device there is: what `make train` runs.
#
#     sh models/train.sh DATA RUN MINUTES LPIPS
#
# On a GPU the photographs lie on the device as uint8, and networks are compiled and run in bfloat16; there BATCH can be ten
# times what two CPU cores take, 7 crops of CROP=192 px. RNG is the command, FROM the model that training begins with.
set -eu
data=${1:?a folder of clean photographs} run=${2:?a folder for the run} minutes=${3:?minutes in all} lpips=${4:?the LPIPS files}
rng=${RNG:-rng} from=${FROM:-rng-s} batch=${BATCH:-7} crop=${CROP:-192}
part() { awk "BEGIN { print $minutes * $1 }"; }

$rng train reconstruct --from "$from" --data "$data" --run "$run" --minutes "$(part 0.6)" --loss rms --lr 6e-4 \
  --batch "$batch" --crop "$crop"
$rng train generate --from "$from" --data "$data" --run "$run" --minutes "$(part 0.3)" --perceptual 25 --lr 6e-4 \
  --batch "$batch" --crop 128 --lpips-weights "$lpips"
$rng train controller --data "$data" --run "$run" --patches "${PATCHES:-420}" --steps 1500 --lpips-weights "$lpips"
echo "the model: $run/bundle.safetensors"
