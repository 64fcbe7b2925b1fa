#!/usr/bin/env bash
# From nothing to a distilled reranker on real text: candidates, a teacher's orders, a student, and how good it is.
#
#   bash scripts/quickstart.sh [--model_name_or_path NAME] [--teacher_model_name_or_path NAME]
#
# The first is the encoder that the student starts from and that the stand-in teacher uses (default: MiniLM from a
# package, so that nothing but the package index is needed); the second a language model in the stand-in's place.
# Everything lies in quickstart/. A second run reuses what is finished and resumes what is not.
set -euo pipefail
cd "$(dirname "$0")/.."

model='' teacher_model=''
while [ $# -gt 0 ]; do
  case $1 in
    --model_name_or_path) model=${2:?"$1 needs a value"} ;;
    --teacher_model_name_or_path) teacher_model=${2:?"$1 needs a value"} ;;
    *) sed -n "3,7s/^# \{0,1\}//p" "$0" >&2; exit 2 ;;
  esac
  shift 2
done

. scripts/environment.sh
make_environment quickstart
python=.venv/bin/python
export TOKENIZERS_PARALLELISM=false
# A thread that waits gives its core away: half as fast again where other programs run, and no slower where none do
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
if [ -z "$model$teacher_model" ]; then export HF_HUB_OFFLINE=1; fi
name=$(basename "${model:-minilm}")-from-$(basename "${teacher_model:-similarity}")
if [ -z "$model" ]; then model=$($python scripts/quickstart_weights.py); fi

depth=20
if [ -n "$teacher_model" ]; then
  teacher=(--engine hf --model_name_or_path "$teacher_model")
else
  teacher=(--engine similarity --model_name_or_path "$model")
fi
collection=quickstart/collection
work=quickstart/$name
mkdir -p "$work"

driver() { $python -m "tevatron_distill.driver.$1" "${@:2}"; }
step() { printf '\n== %s\n' "$1"; }

step 'Collection: documentation strings of the standard library, whole modules held out'
[ -e $collection/qrels/test.txt ] || $python scripts/quickstart_collection.py $collection

for split in train test; do
  step "BM25 finds $depth candidates for the $split queries"
  [ -e quickstart/candidates.$split.jsonl ] || driver retrieve --retriever bm25 --depth $depth \
    --corpus_path $collection/corpus.jsonl --queries_path $collection/${split}_queries.jsonl \
    --output_path quickstart/bm25.$split.trec --rerank_input_path quickstart/candidates.$split.jsonl \
    --overwrite_output_dir

  step "The teacher orders them, asked about every pair ($split)"
  [ -e "$work/teacher.$split.jsonl" ] || driver teach --teacher pairwise --sort allpair "${teacher[@]}" \
    --dataset_path quickstart/candidates.$split.jsonl --depth $depth \
    --output_path "$work/teacher.$split.jsonl" --run_path "$work/teacher.$split.trec"
done

step 'A ColBERT student learns the order from groups of 8'
# A few minutes on two cores; twice as many steps end at the same place
grep -qs '"complete": true' "$work/student/run_config.json" || driver train \
  --model_name_or_path "$model" --student colbert --loss rank_net \
  --dataset_path "$work/teacher.train.jsonl" --train_group_size 8 --output_dir "$work/student" \
  --learning_rate 2e-5 --per_device_train_batch_size 8 --max_steps 48 --logging_steps 12 \
  --save_steps 24 --save_total_limit 1

step 'The student orders the candidates of the held-out queries'
[ -e "$work/student.trec" ] || driver rerank --model_name_or_path "$work/student" \
  --dataset_path quickstart/candidates.test.jsonl --depth $depth --output_dir "$work" \
  --rerank_output_path "$work/student.trec" --output_format trec

step 'Result on held-out modules'
$python scripts/quickstart_report.py --collection $collection --depth $depth --bm25 quickstart/bm25.test.trec \
  --teacher "$work/teacher.test.jsonl" --student "$work/student.trec" --picture "$work/result.png"

step 'A page to look at, and the student as other libraries load it'
[ -e "$work/report.html" ] || driver report --qrels_path $collection/qrels/test.txt \
  --run_path quickstart/bm25.test.trec "$work/student.trec" --run_name BM25 student teacher \
  --groups_path "$work/teacher.test.jsonl" --train_path "$work/student" --output_path "$work/report.html"
[ -e "$work/exported" ] || driver export --model_name_or_path "$work/student" --output_dir "$work/exported" \
  --results_path "$work/report.html"
cat <<END

Picture: $work/result.png    Page: $work/report.html    Student: $work/student
For other libraries, with a model card: $work/exported    Total: $((SECONDS / 60)) min $((SECONDS % 60)) s
END
if [ -z "$teacher_model" ]; then cat <<END

The teacher above is a stand-in: MiniLM's similarity mixed with BM25, asked the questions that a language model would
be asked. It is quick because it reads every passage once for all queries; a language model reads both passages of
$((depth * (depth - 1))) questions a query. To put FLAN-T5 in its place, change one thing (it wants a GPU):
  bash scripts/quickstart.sh --teacher_model_name_or_path google/flan-t5-xl
To learn from a model behind an API, let its run (six columns, from whatever asked it) be the verdict in training:
  python -m tevatron_distill.driver.train --dataset_path quickstart/candidates.train.jsonl --teacher_run_path RUN …
END
fi
