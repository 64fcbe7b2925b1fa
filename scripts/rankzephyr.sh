#!/usr/bin/env bash
# RankZephyr (Pradeep et al. 2023, arXiv 2312.02724): a listwise student that generates the order, RankLLM's preset.
#
#   bash scripts/rankzephyr.sh CANDIDATES QRELS
#
# CANDIDATES: what a first stage found (RankLLM's retrieve_results file; top 100); QRELS: judgements.
#
# Hyper-parameters: RankLLM's train_rank_zephyr.sh (lr 5e-6, cosine, 50 warm-up steps, 3 epochs, NEFTune 5, 4 rows a
# GPU accumulated 16 times on 4 GPUs = 256, ZeRO-3, bf16). The preset trains on letters, so letters are used to rank,
# too: its README goes on with the numeric prompt. Hardware: 4 GPUs of 80 GB. Not run here: no GPU.
# nDCG@10 to reach with the released weights (RankLLM's reproduction tables, DL19/DL20): BM25 .7365/.7080,
# SPLADE++ .7781/.8147. They are the authors': nobody has reached them with this script yet.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '4,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
candidates=$1 qrels=$2
work=${WORK:-out/rankzephyr}
mkdir -p "$work"

deepspeed --num_gpus "${GPUS:-4}" --module tevatron_distill.driver.train \
  --deepspeed deepspeed/ds_zero3_config.json --model_name_or_path HuggingFaceH4/zephyr-7b-beta \
  --student listwise --prompt rank_zephyr_alpha --objective generation --decode generation \
  --dataset_name rryisthebest/rank_zephyr_training_data_alpha --train_group_size 20 --rerank_max_len 4096 \
  --learning_rate 5e-6 --lr_scheduler_type cosine --warmup_steps 50 --num_train_epochs 3 --seed 42 \
  --neftune_noise_alpha 5 --bf16 --gradient_checkpointing --per_device_train_batch_size 4 \
  --gradient_accumulation_steps 16 --save_strategy epoch --output_dir "$work/student"
python -m tevatron_distill.driver.rerank --model_name_or_path "$work/student" --dataset_path "$candidates" \
  --depth 100 --window_size 20 --step_size 10 --bf16 --rerank_output_path "$work/run.tsv" \
  --output_dir "$work/temp"
python -m tevatron_distill.driver.evaluate --qrels_path "$qrels" --run_path "$work/run.tsv" --measures nDCG@10
