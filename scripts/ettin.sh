#!/usr/bin/env bash
# An Ettin reranker (Aarsen 2026, huggingface.co/blog/ettin-reranker; no arXiv number): a small encoder learns the raw
# scores of mxbai-rerank-large-v2 by their mean squared error.
#
#   bash scripts/ettin.sh 17m|32m|68m|150m|400m|1b      all settings: scripts/reproduce.sh
#
# From PART (default msmarco) of cross-encoder/ettin-reranker-v1-data and jhu-clsp/ettin-encoder-* to nDCG@10 on the 13
# sets of NanoBEIR, its own BM25's top 100. Hyper-parameters: the blog's (its learning rate and batch for each size, one
# epoch, 3 % warm-up, linear, seed 12, bf16). What differs: rows are held in memory, so one part of 39 is read and not
# all 143 million rows; rows of a query stand in one group, of 16 here, each query weighing the same; queries with one
# row are left out; the head is the encoder's own (ModernBertForSequenceClassification), which is not quite theirs.
# Hardware: one GPU up to 150m (GPUS=1; theirs: 8, and more for the larger ones). Not run here: no GPU, no hub.
# To reach: scripts/published.json. They are the author's: nobody has reached them with this script yet.
set -euo pipefail
case ${1:-} in # learning rate, queries a step = their rows a step / 16
  17m) rate=2.4e-4 queries=64 ;;
  32m) rate=1.2e-4 queries=32 ;;
  68m) rate=3e-5 queries=16 ;;
  150m) rate=1.5e-5 queries=12 ;;
  400m) rate=7e-6 queries=16 ;;
  1b) rate=3e-6 queries=32 ;;
  *) sed -n '5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
GPUS=${GPUS:-1}
. "$(dirname "$0")/reproduce.sh"
begin "ettin-$1"
training_rows --dataset_name cross-encoder/ettin-reranker-v1-data --dataset_config "${PART:-msmarco}"

step "The student learns the teacher's scores"
train student "" --model_name_or_path "${MODEL:-jhu-clsp/ettin-encoder-$1}" --student cross_encoder \
  --loss pointwise_mse "${data[@]}" --train_group_size 16 --rerank_max_len 512 --learning_rate "$rate" \
  --warmup_steps 0.03 --num_train_epochs 1 --seed 12 --bf16 --per_device_train_batch_size 4 \
  --gradient_accumulation_steps "$(accumulation "$queries" 4)" \
  --save_steps 0.05

nano="arguana climatefever dbpedia fever fiqa2018 hotpotqa msmarco nfcorpus nq quoraretrieval scidocs scifact"
rank_sets student "$(printf 'nano-%s ' $nano touche2020)" --bf16
