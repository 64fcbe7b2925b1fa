# The head of the scripts that reproduce a paper from data to table; each sources it and calls `begin NAME`.
#
# Hours and memory: `python scripts/estimate.py NAME`, on the GPU that is to be used with --measure.
#
# What is finished is skipped and what is not goes on where it was: run the same command again. DRY_RUN=1 prints the
# commands that are left and runs none. In the environment:
#   WORK, SETS_DIR   where this run lies (out/NAME), and the test sets (out/sets; `python scripts/published_sets.py`
#                    lists them; a folder of your own there, candidates.jsonl with qrels.txt, is taken as it is)
#   SETS             test sets, in the place of the script's
#   MODEL, ROWS      base model and training rows, in the place of the script's
#   GPUS             of this machine (4); the queries of a step stay the same
#   LAUNCHER         what starts the processes (torchrun --nproc_per_node $GPUS -m)
#   ZERO             DeepSpeed's stage, 0, 2 or 3; empty for none
#   TEACH_FLAGS, TRAIN_FLAGS, RERANK_FLAGS   flags behind the script's, which override them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TOKENIZERS_PARALLELISM=false
sets_dir=${SETS_DIR:-out/sets}

begin() {
  recipe=$1 work=${WORK:-out/$1}
  [ -n "${DRY_RUN:-}" ] || mkdir -p "$work"
}

step() { printf '\n== %s\n' "$1"; }

run() {
  if [ -n "${DRY_RUN:-}" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# Unquoted on purpose, here and for *_FLAGS below: a variable holds several words
launch() { run ${LAUNCHER:-torchrun --nproc_per_node "${GPUS:-4}" -m} "tevatron_distill.driver.$1" "${@:2}"; }

# accumulation QUERIES PER_DEVICE: so many steps make QUERIES a step on all GPUs together
accumulation() { echo $(($1 / $2 / ${GPUS:-4} > 0 ? $1 / $2 / ${GPUS:-4} : 1)); }

# get_set NAME: candidates and judgements of a published set
get_set() {
  [ -e "$sets_dir/$1/candidates.jsonl" ] || run python scripts/published_sets.py "$1" --folder "$sets_dir"
}

# training_rows flags…: the flags of the rows that are trained on, in "${data[@]}"; ROWS in their place
# shellcheck disable=SC2034 # the scripts read it
training_rows() {
  data=("$@")
  [ -z "${ROWS:-}" ] || data=(--dataset_path "$ROWS")
}

# train FOLDER STAGE flags…: a student in $work/FOLDER
train() {
  local zero=${ZERO-$2} parts=()
  if grep -qs '"complete": true' "$work/$1/run_config.json"; then return; fi
  [ -z "$zero" ] || parts=(--deepspeed "deepspeed/ds_zero${zero}_config.json")
  launch train "${@:3}" "${parts[@]}" --output_dir "$work/$1" ${TRAIN_FLAGS:-}
}

# rank_sets FOLDER "SETS" flags…: a run of each set, and the table
rank_sets() {
  local name
  for name in ${SETS:-$2}; do
    step "Test set $name"
    get_set "$name"
    [ -e "$work/run.$name.tsv" ] || launch rerank --model_name_or_path "$work/$1" --output_dir "$work/temp" \
      --dataset_path "$sets_dir/$name/candidates.jsonl" --rerank_output_path "$work/run.$name.tsv" "${@:3}" \
      ${RERANK_FLAGS:-}
  done
  step "Table"
  run python scripts/reproduce_table.py "$recipe" --work "$work" --folder "$sets_dir"
}
