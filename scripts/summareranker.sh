#!/usr/bin/env bash
# SummaReranker (Ravaut et al. 2022, arXiv 2203.06569), as LLM-Blender trains it on MixInstruct.
#
#   bash scripts/summareranker.sh      with data/mixinstruct/all_train.json, all_val.json and all_test.json
#
# Hyper-parameters: LLM-Blender's train_ranker.sh (DeBERTa-v3-large, 128 + 128 tokens, best and worst candidate of a
# row, lr 1e-5, 5 epochs, 4 rows a GPU accumulated 16 times). Hardware: 4 A100 (its job script). Not run here: no GPU.
# To reach on MixInstruct's test (LLM-Blender's table): BERTScore 71.60, BARTScore -3.25, BLEURT -.41, GPT-Rank 3.66.
# They are the paper's: nobody has reached them with this script yet.
set -euo pipefail
cd "$(dirname "$0")/.."
dataset=${dataset:-mixinstruct} ranker=SummaReranker n_gpu=${n_gpu:-4} \
  backbone_name=${backbone_name:-microsoft/deberta-v3-large} exec bash scripts/train_ranker.sh
