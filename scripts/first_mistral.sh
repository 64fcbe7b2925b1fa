#!/usr/bin/env bash
# FIRST (Reddy et al. 2024, arXiv 2406.15657) on Mistral (Chen et al. 2024, arXiv 2411.05508): a listwise student that
# ranks by the logits of the identifiers at the first token, one forward pass a window; RankLLM's preset.
#
#   bash scripts/first_mistral.sh      all settings: scripts/reproduce.sh
#
# From rryisthebest/rank_zephyr_training_data_alpha and mistralai/Mistral-7B-Instruct-v0.3 to nDCG@10 on DL19 and DL20,
# the top 100 of BM25 and of SPLADE++.
# Hyper-parameters: RankLLM's train_first_mistral.sh (generation + 10 × RankNet weighted by inverse rank sums, lr 5e-6,
# cosine, 50 warm-up steps, 3 epochs, NEFTune 5, 8 rows a GPU accumulated 4 times on 4 GPUs = 128, ZeRO-3, bf16).
# Hardware: 4 GPUs of 80 GB. Not run here: no GPU, no hub.
# To reach with the released weights (RankLLM's reproduction tables): BM25 .7294 (DL19), .7043 (DL20); SPLADE++
# .7829-.7906 (DL20). They are the authors': nobody has reached them with this script yet.
set -euo pipefail
[ $# -eq 0 ] || { sed -n '5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
. "$(dirname "$0")/reproduce.sh"
begin first_mistral
training_rows --dataset_name rryisthebest/rank_zephyr_training_data_alpha

step "The student learns the teacher's order, as a text and by the logits of its first letter"
train student 3 --model_name_or_path "${MODEL:-mistralai/Mistral-7B-Instruct-v0.3}" --student listwise \
  --prompt rank_zephyr_alpha --objective combined --loss rank_net --weighted "${data[@]}" --train_group_size 20 \
  --rerank_max_len 4096 --learning_rate 5e-6 --lr_scheduler_type cosine --warmup_steps 50 --num_train_epochs 3 \
  --seed 42 --neftune_noise_alpha 5 --bf16 --gradient_checkpointing --per_device_train_batch_size 8 \
  --gradient_accumulation_steps "$(accumulation 128 8)" --save_strategy epoch

rank_sets student "dl19 dl20 dl20-splade" --depth 100 --window_size 20 --step_size 10 --decode logits --bf16
