#!/usr/bin/env bash
# PairRM: LLM-Blender's PairRanker (Jiang et al. 2023, arXiv 2306.02561) trained on human preferences.
#
#   bash scripts/pairrm.sh      with data/unified_feedback/all_train.json and all_val.json in LLM-Blender's rows
#
# Hyper-parameters: LLM-Blender's train_ranker.sh (DeBERTa-v3-large, source 1224 and candidate 412 tokens, 5 pairs a
# row, instructgpt loss, lr 1e-5, 5 epochs, no clipping, 4 rows a GPU accumulated 4 times). Hardware: 4 A100 (its job
# script). Not run here: no GPU.
# To reach (PairRM's model card): Auto-J pairwise 59.05, HHH 84.62, MT-Bench agreement 59. They are the authors':
# nobody has reached them with this script yet.
set -euo pipefail
cd "$(dirname "$0")/.."
dataset=${dataset:-unified_feedback} ranker=PairRanker n_gpu=${n_gpu:-4} \
  backbone_name=${backbone_name:-microsoft/deberta-v3-large} exec bash scripts/train_ranker.sh
