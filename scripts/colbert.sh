#!/usr/bin/env bash
# ColBERT as a reranker (Khattab and Zaharia 2020, arXiv 2004.12832), with open-retrievals' or PyLate's conventions.
#
#   bash scripts/colbert.sh CANDIDATES QRELS
#
# CANDIDATES: what a first stage found (BM25's top 1000 in the paper); QRELS: judgements.
#
# Hyper-parameters: the paper's (BERT-base, 128 dimensions, queries of 32 tokens filled up with [MASK], lr 3e-6, 32
# triples a step, 200,000 steps, cross-entropy of a relevant against another passage). Hardware: one GPU (theirs: a
# Tesla V100). Not run here: no GPU.
# MRR@10 to reach on MS MARCO dev, reranking BM25's top 1000: .349 (its table 1). The paper's: nobody has reached it
# with this script yet.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '4,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
candidates=$1 qrels=$2
work=${WORK:-out/colbert}
mkdir -p "$work"

python -m tevatron_distill.driver.train --model_name_or_path google-bert/bert-base-uncased --student colbert \
  --colbert_convention "${convention:-pylate}" --colbert_dim 128 --query_max_len 32 --passage_max_len 180 \
  --dataset_name Tevatron/msmarco-passage --train_group_size 2 --loss softmax_ce --learning_rate 3e-6 \
  --per_device_train_batch_size 32 --max_steps 200000 --save_steps 20000 --fp16 --output_dir "$work/student"
python -m tevatron_distill.driver.rerank --model_name_or_path "$work/student" --dataset_path "$candidates" \
  --depth 1000 --passage_vectors_path "$work/vectors" --rerank_output_path "$work/run.tsv" --output_dir "$work/temp"
python -m tevatron_distill.driver.evaluate --qrels_path "$qrels" --run_path "$work/run.tsv" --measures RR@10
