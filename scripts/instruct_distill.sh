#!/usr/bin/env bash
# InstructDistill (Sun et al. 2023, arXiv 2311.01555): pairwise prompting of an LLM, distilled into the same LLM.
#
#   bash scripts/instruct_distill.sh base|large|xl|llama TRAIN_ROWS CANDIDATES QRELS
#
# TRAIN_ROWS: marco-train-10k.jsonl of the authors (query, positive_passages, retrieved_passages); CANDIDATES: what a
# first stage found for the test queries (rows with texts, BM25's top 100 in the paper); QRELS: their judgements.
#
# Hyper-parameters: the published code's (top 20 of BM25, RankNet on 1/rank, the teacher's best 8, lr 2e-5, 3 epochs,
# 16 queries a step, clip 1.0, bf16). The paper's text says top 10, lr 3e-5, batch 32, length 512.
# Hardware: 4 GPUs with DeepSpeed ZeRO-2 (theirs). Not run here: no GPU.
# nDCG@10 to reach (their table 2; FLAN-T5, DL19/DL20): base .5730/.5309, large .6981/.6280, xl .7192/.6929, from
# teachers of .5145/.4836, .6658/.6151, .7058/.6721. No figure is at hand for LLaMA-2-7B. They are the paper's:
# nobody has reached them with this script yet.
set -euo pipefail
[ $# -eq 4 ] || { sed -n '4,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
size=$1 rows=$2 candidates=$3 qrels=$4
case $size in
  base | large | xl) model=google/flan-t5-$size ;;
  llama) model=meta-llama/Llama-2-7b-hf ;;
  *) echo "error: the size must be base, large, xl or llama; got $size" >&2; exit 2 ;;
esac
work=${WORK:-out/instruct-distill-$size}
mkdir -p "$work"
driver() { python -m "tevatron_distill.driver.$1" "${@:2}"; }

driver teach --dataset_path "$rows" --depth 20 --teacher pairwise --sort allpair --prompt instructdistill \
  --engine hf --model_name_or_path "$model" --dtype bfloat16 --batch_tokens 65536 \
  --output_path "$work/groups.jsonl"
deepspeed --num_gpus "${GPUS:-4}" --module tevatron_distill.driver.train \
  --deepspeed deepspeed/ds_zero2_config.json --model_name_or_path "$model" --student yes_token --loss rank_net \
  --dataset_path "$work/groups.jsonl" --group_sampling top --train_group_size 8 --rerank_max_len 1024 \
  --learning_rate 2e-5 --num_train_epochs 3 --max_grad_norm 1.0 --bf16 --gradient_checkpointing \
  --per_device_train_batch_size 2 --gradient_accumulation_steps 2 --output_dir "$work/student"
driver rerank --model_name_or_path "$work/student" --dataset_path "$candidates" --depth 100 --bf16 \
  --rerank_output_path "$work/run.tsv" --output_dir "$work/temp"
driver evaluate --qrels_path "$qrels" --run_path "$work/run.tsv" --measures nDCG@10
