#!/usr/bin/env bash
# RankT5 (Zhuang et al. 2022, arXiv 2210.10634), encoder-decoder: the score is the logit of <extra_id_10> at the first
# decoder step, learned by a softmax over a list.
#
#   bash scripts/rankt5.sh base|large|3b      all settings: scripts/reproduce.sh
#
# From Tevatron/msmarco-passage and google/t5-v1_1-base, -large or -xl to nDCG@10 on DL19 and DL20, TREC's own top 1000.
# Hyper-parameters: lists of 36 (one relevant passage), 32 lists a step, lr 1e-4, one epoch; the paper was not at hand,
# so compare them with its text before you compare figures. What differs from it: negatives are BM25's of Tevatron's
# set, and the prompt is monoT5's, "Query: … Document: … Relevant: ", which ends in one word more.
# Hardware: 4 GPUs of 80 GB. Not run here: no GPU, no hub. To reach: what lightning-ir measured of Soyoung97/RankT5-*
# (scripts/published.json); they are others' weights: nobody has reached it with this script yet.
set -euo pipefail
case ${1:-} in
  base | large) model=google/t5-v1_1-$1 ;;
  3b) model=google/t5-v1_1-xl ;;
  *) sed -n '5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
. "$(dirname "$0")/reproduce.sh"
begin "rankt5-$1"
training_rows --dataset_name Tevatron/msmarco-passage

step "The student learns from judgements"
# 32089 is <extra_id_10>
train student 2 --model_name_or_path "${MODEL:-$model}" --student yes_token --prompt monot5 \
  --yes_token "${YES_TOKEN:-32089}" --no_token "" "${data[@]}" --train_group_size 36 --loss softmax_ce \
  --rerank_max_len 512 --learning_rate 1e-4 --lr_scheduler_type constant --num_train_epochs 1 --bf16 \
  --gradient_checkpointing --per_device_train_batch_size 2 --gradient_accumulation_steps "$(accumulation 32 2)" \
  --logging_steps 10 --save_steps 500

rank_sets student "dl19-top1000 dl20-top1000" --bf16
