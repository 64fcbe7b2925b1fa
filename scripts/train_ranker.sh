#!/usr/bin/env bash
# LLM-Blender's rankers (Jiang et al. 2023, arXiv 2306.02561): its train_ranker.sh, with its variables.
#
#   dataset=mixinstruct ranker=PairRanker backbone_name=microsoft/deberta-v3-large bash scripts/train_ranker.sh
#
# Variables, with LLM-Blender's defaults (set them in the environment; a second word of a value is a second word here):
#   dataset        folder under ./data with all_train.json and all_test_items.json (or all_val.json, all_test.json);
#                  its name sets lengths, batches and the metric: mixinstruct, self_instruct, open_instruct,
#                  reward_model, unified_feedback, UnifiedFeedback, pairrm_2.7b
#   eval_dataset   folder of the rows that are evaluated and ranked (default: dataset)
#   backbone_type, backbone_name   the type is read from the model itself; the name is a folder or a name on the hub
#   ranker         PairRanker, SummaReranker or SimCLS, in any of the spellings that were ever used
#   candidate_model, candidate_decoding_method, n_candidates   which candidates count; empty and -1 for all
#   do_inference   True ranks the test rows with a checkpoint and trains nothing
#   checkpoint_trained_dataset   the dataset that the checkpoint was trained on, where it is another one
#   max_train_data_size, max_eval_data_size, max_predict_data_size   rows at most; -1 for all
#   TORCHRUN_CMD   what starts the processes (default: deepspeed with ZeRO-3 on n_gpu GPUs)
set -euo pipefail
dataset=${dataset:?"which? for example dataset=mixinstruct"}
eval_dataset=${eval_dataset:-$dataset}
backbone_type=${backbone_type:-deberta}
backbone_name=${backbone_name:-microsoft/deberta-v3-large}
n_gpu=${n_gpu:-8}
ranker=${ranker:-PairRanker}
candidate_model=${candidate_model:-}
candidate_decoding_method=${candidate_decoding_method:-}
n_candidates=${n_candidates:--1}
learning_rate=${learning_rate:-1e-5}
num_train_epochs=${num_train_epochs:-5}
max_grad_norm=${max_grad_norm:-10e10} # no clipping
max_train_data_size=${max_train_data_size:--1}
max_eval_data_size=${max_eval_data_size:--1}
max_predict_data_size=${max_predict_data_size:--1}
do_inference=${do_inference:-False}
checkpoint_trained_dataset=${checkpoint_trained_dataset:-$dataset}
run_name_postfix=${run_name_postfix:-}
TORCHRUN_CMD=${TORCHRUN_CMD:-deepspeed --num_gpus $n_gpu --module}
precision=${precision:---bf16 true} # fp16 there, which overflows in DeBERTa-v3

case $dataset in # source, candidate, rows a step, rows of an evaluation step, accumulation, metric
  *mixinstruct*) set -- 128 128 4 8 16 bartscore ;;
  *self_instruct*) set -- 128 128 4 4 16 bartscore ;;
  *open_instruct*) set -- 192 416 4 2 16 comb_rate ;;
  *reward_model*) set -- 1224 412 2 1 8 human_preference ;;
  *unified_feedback*) set -- 1224 412 4 1 4 human_preference ;;
  *UnifiedFeedback*) set -- 1224 412 1 1 16 human_preference ;;
  *pairrm_2.7b*) set -- 1224 412 1 1 8 human_preference ;;
  *) echo "error: no lengths are known for the dataset $dataset; add a line for it to $0" >&2; exit 2 ;;
esac
source_maxlength=$1 candidate_maxlength=$2 train_batch=$3 eval_batch=$4 accumulation=$5
using_metrics=${using_metrics:-$6}

case ${ranker,,} in
  pairranker) own=(--num_pos 5 --num_neg 5 --loss_type instructgpt --sub_sampling_mode all_pair) ;;
  summareranker | summaranker) own=(--num_pos 1 --num_neg 1 --loss_type MoE_BCE --sub_sampling_mode top_bottom) ;;
  simcls | dual) own=(--loss_type simcls --sub_sampling_mode uniform --sub_sampling_ratio 0.3) ;;
  *) echo "error: ranker must be PairRanker, SummaReranker or SimCLS; got $ranker" >&2; exit 2 ;;
esac

first_file() {
  local name
  for name in "$@"; do if [ -f "$name" ]; then echo "$name"; return; fi; done
  echo "error: none of these files is there: $*" >&2
  return 1
}
test_data_path=$(first_file "data/$eval_dataset/all_test_items.json" "data/$eval_dataset/all_test.json" \
  "data/$eval_dataset/all_val.json")
trained=outputs/${ranker,,}/$(basename "$backbone_name")/train_${checkpoint_trained_dataset}_$ranker$run_name_postfix
filters=(--n_candidates "$n_candidates" --candidate_model "$candidate_model"
  --candidate_decoding_method "$candidate_decoding_method" --using_metrics "$using_metrics")

if [[ ${do_inference,,} == true ]]; then
  run=outputs/${ranker,,}/$(basename "$backbone_name")/test_${eval_dataset}_$ranker$run_name_postfix
  mkdir -p "$run"
  python -m tevatron_distill.driver.rerank --model_name_or_path "$trained" --dataset_path "$test_data_path" \
    "${filters[@]}" --max_predict_data_size "$max_predict_data_size" --rerank_output_path "$run/run.tsv" \
    --output_dir "$run/temp"
else
  train_data_path=$(first_file "data/$dataset/all_train.json")
  dev_data_path=$(first_file "data/$eval_dataset/all_val.json" "$test_data_path")
  run=$trained
  launcher=()
  if [[ $TORCHRUN_CMD == deepspeed* ]]; then launcher=(--deepspeed deepspeed/ds_zero3_config.json); fi
  # shellcheck disable=SC2086 # the launcher and the precision are several words
  $TORCHRUN_CMD tevatron_distill.driver.train --ranker_type "$ranker" --model_type "$backbone_type" \
    --model_name "$backbone_name" --run_name "$(basename "$run")" --output_dir "$run" "${launcher[@]}" \
    --train_data_path "$train_data_path" --eval_data_path "$dev_data_path" --test_data_path "$test_data_path" \
    "${filters[@]}" "${own[@]}" --learning_rate "$learning_rate" --weight_decay 0.1 --warmup_ratio 0.05 \
    --source_maxlength $source_maxlength --candidate_maxlength $candidate_maxlength \
    --per_device_train_batch_size $train_batch --per_device_eval_batch_size $eval_batch \
    --gradient_accumulation_steps $accumulation --num_train_epochs "$num_train_epochs" \
    --max_grad_norm "$max_grad_norm" $precision --optim adafactor --evaluation_strategy epoch --save_strategy epoch \
    --load_best_model_at_end True --metric_for_best_model dev_score --save_total_limit 4 \
    --max_train_data_size "$max_train_data_size" --max_eval_data_size "$max_eval_data_size" \
    --max_predict_data_size "$max_predict_data_size"
fi
python -m tevatron_distill.driver.evaluate --run_path "$run/run.tsv" --metrics_path "$test_data_path" \
  --using_metrics "$using_metrics"
