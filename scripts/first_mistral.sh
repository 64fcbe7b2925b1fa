#!/usr/bin/env bash
# FIRST (Reddy et al. 2024, arXiv 2406.15657) on Mistral (Chen et al. 2024, arXiv 2411.05508): a listwise student that
# ranks by the logits of the identifiers at the first token, one forward pass a window; RankLLM's preset.
#
#   bash scripts/first_mistral.sh CANDIDATES QRELS
#
# CANDIDATES: what a first stage found (RankLLM's retrieve_results file; top 100); QRELS: judgements.
#
# Hyper-parameters: RankLLM's train_first_mistral.sh (generation + 10 × RankNet weighted by inverse rank sums, lr 5e-6,
# cosine, 50 warm-up steps, 3 epochs, NEFTune 5, 8 rows a GPU accumulated 4 times on 4 GPUs = 128, ZeRO-3, bf16).
# Hardware: 4 GPUs of 80 GB. Not run here: no GPU.
# nDCG@10 to reach with the released weights (RankLLM's reproduction tables): BM25 .7294 (DL19), .7043 (DL20); SPLADE++
# .7829-.7906 (DL20). They are the authors': nobody has reached them with this script yet.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '5,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
candidates=$1 qrels=$2
work=${WORK:-out/first-mistral}
mkdir -p "$work"

deepspeed --num_gpus "${GPUS:-4}" --module tevatron_distill.driver.train \
  --deepspeed deepspeed/ds_zero3_config.json --model_name_or_path mistralai/Mistral-7B-Instruct-v0.3 \
  --student listwise --prompt rank_zephyr_alpha --objective combined --loss rank_net --weighted \
  --dataset_name rryisthebest/rank_zephyr_training_data_alpha --train_group_size 20 --rerank_max_len 4096 \
  --learning_rate 5e-6 --lr_scheduler_type cosine --warmup_steps 50 --num_train_epochs 3 --seed 42 \
  --neftune_noise_alpha 5 --bf16 --gradient_checkpointing --per_device_train_batch_size 8 \
  --gradient_accumulation_steps 4 --save_strategy epoch --output_dir "$work/student"
python -m tevatron_distill.driver.rerank --model_name_or_path "$work/student" --dataset_path "$candidates" \
  --depth 100 --window_size 20 --step_size 10 --decode logits --bf16 --rerank_output_path "$work/run.tsv" \
  --output_dir "$work/temp"
python -m tevatron_distill.driver.evaluate --qrels_path "$qrels" --run_path "$work/run.tsv" --measures nDCG@10
