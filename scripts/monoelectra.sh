#!/usr/bin/env bash
# monoELECTRA from RankZephyr's permutations: Rank-DistiLLM (Schlatt et al. 2025, arXiv 2405.07920).
#
#   bash scripts/monoelectra.sh base|large      all settings: scripts/reproduce.sh
#
# From google/electra-*-discriminator, first trained on Tevatron/msmarco-passage by a contrastive loss, then on the
# 10,000 × 100 permutations of webis/rank-distillm, to nDCG@10 on DL19 and DL20, BM25's top 100 and TREC's top 1000.
# Hyper-parameters: webis-de/msmarco-llm-distillation, configs/ (groups of 8, 32 queries a step, 20,000 steps; then
# groups of 100, 32 queries a step, 3 epochs, RankNet; lr 1e-5, query 32 and passage 256 tokens, bf16). LOSS=adr_mse is
# the paper's other loss. What differs: the first stage's negatives are BM25's (theirs: ColBERTv2's, 100 million rows).
# Hardware: one GPU of 40 GB (GPUS=1; theirs is not stated). Not run here: no GPU, no hub. To reach:
# scripts/published.json. They are the authors': nobody has reached them with this script yet.
set -euo pipefail
case ${1:-} in
  base | large) model=google/electra-$1-discriminator ;;
  *) sed -n '4s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
GPUS=${GPUS:-1}
. "$(dirname "$0")/reproduce.sh"
begin "monoelectra-$1"
lengths=(--query_max_len 32 --passage_max_len 256 --rerank_max_len 291)
training_rows --dataset_name Tevatron/msmarco-passage

step "A cross-encoder learns from judgements"
train first "" --model_name_or_path "${MODEL:-$model}" --student cross_encoder "${data[@]}" --train_group_size 8 \
  --loss softmax_ce "${lengths[@]}" --learning_rate 1e-5 --max_steps 20000 --per_device_train_batch_size 16 \
  --gradient_accumulation_steps "$(accumulation 32 16)" --bf16 --seed 42 --save_steps 2000

step "RankZephyr's permutations"
get_set rank-distillm

step "It learns them"
train student "" --model_name_or_path "$work/first" --student cross_encoder --loss "${LOSS:-rank_net}" \
  --dataset_path "$sets_dir/rank-distillm/candidates.jsonl" --teacher_run_path "$sets_dir/rank-distillm/run.trec" \
  --train_group_size 100 "${lengths[@]}" --learning_rate 1e-5 --num_train_epochs 3 --per_device_train_batch_size 1 \
  --gradient_accumulation_steps "$(accumulation 32 1)" --bf16 --seed 42 --save_strategy epoch

rank_sets student "dl19 dl20 dl19-top1000 dl20-top1000" --bf16
