#!/usr/bin/env bash
# SimCLS (Liu and Liu 2021, arXiv 2106.01890), as LLM-Blender trains it on MixInstruct.
#
#   bash scripts/simcls.sh      with data/mixinstruct/all_train.json, all_val.json and all_test.json
#
# Hyper-parameters: LLM-Blender's train_ranker.sh (DeBERTa-v3-large, 128 and 128 tokens, every third candidate by
# rank, lr 1e-5, 5 epochs, 4 rows a GPU accumulated 16 times). Hardware: 4 A100 (its job script). Not run here: no GPU.
# To reach on MixInstruct's test (LLM-Blender's table): BERTScore 73.14, BARTScore -3.22, BLEURT -.38, GPT-Rank 3.50.
# They are the paper's: nobody has reached them with this script yet.
set -euo pipefail
cd "$(dirname "$0")/.."
dataset=${dataset:-mixinstruct} ranker=SimCLS n_gpu=${n_gpu:-4} \
  backbone_name=${backbone_name:-microsoft/deberta-v3-large} exec bash scripts/train_ranker.sh
