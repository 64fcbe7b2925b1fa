"""What is compared with what: for each published method an independent implementation or recorded output, and the test.

``python tests/parity/methods.py`` prints the table.
"""

from __future__ import annotations

from typing import NamedTuple


class Method(NamedTuple):
    """A row of the table.

    Attributes:
        name: the method.
        against: what ours is compared with; of a package the version that was recorded, if it is not installed.
        tests: ``path::function`` or ``path::class::function``, from the folder ``tests``.
        covers: ``loss``, ``student``, ``teacher`` or ``sort``, and its key in our table.
        differs: where ours is meant to differ, and by what.
    """

    name: str
    against: str
    tests: tuple[str, ...]
    covers: tuple[str, ...] = ()
    differs: str = ""


LOOPS = "parity/test_published_loss_formulas.py::test_value_and_gradient_are_those_of_the_formula"
RECORDED = "parity/test_recorded_losses.py::test_value_and_gradient_are_the_recorded_ones"
LIBRARY = "parity/test_sentence_transformers_losses.py::test_value_and_gradient_are_those_of_the_library"
PROGRAMS = "allRank 1.4.3, Lightning IR 0.0.6, LLM-Blender 0.0.2"
RELEASED = "students/test_released.py::test_a_released_model_ranks_by_its_name_and_scores_as_published"

METHODS = (
    Method(
        "RankNet",
        f"formula in loops; sentence-transformers' RankNetLoss; {PROGRAMS}",
        (LOOPS, LIBRARY, RECORDED, "parity/test_recorded_losses.py::test_every_recorded_loss_is_compared"),
        ("loss rank_net",),
        "mean over the pairs of each query, theirs over those of a batch; nats (sentence-transformers: bits, 1/ln 2); "
        "a tie costs nothing (LLM-Blender: ln 2)",
    ),
    Method(
        "LambdaLoss: NDCG-Loss2, NDCG-Loss2++, LambdaRank's weights, none",
        "formula in loops; sentence-transformers' LambdaLoss; allRank 1.4.3",
        (
            LOOPS,
            LIBRARY,
            RECORDED,
            "parity/test_sentence_transformers_losses.py::test_lambda_rank_is_what_lambda_loss_adds_to_ndcg_loss2",
            "parity/test_recorded_losses.py::test_lambda_rank_is_what_lambda_loss_adds_to_ndcg_loss2",
            "parity/test_sentence_transformers_losses.py::"
            "test_equal_scores_have_ranks_as_they_come_there_and_share_them_here",
        ),
        ("loss lambda_loss", "loss ndcg_loss2"),
        "lambda_loss is the published sum (sentence-transformers: mean over pairs); equal scores share their ranks; "
        "NDCG-Loss1 and LambdaRank alone are not offered",
    ),
    Method(
        "ListNet",
        "formula in loops; sentence-transformers; FlagEmbedding's distillation; allRank, LLM-Blender",
        (
            LOOPS,
            LIBRARY,
            RECORDED,
            "parity/test_sentence_transformers_losses.py::"
            "test_flag_embeddings_distillation_is_list_net_of_the_teachers_probabilities",
        ),
        ("loss list_net",),
    ),
    Method(
        "ListMLE",
        "formula in loops; all orders of a list; sentence-transformers; allRank, LLM-Blender",
        (
            LOOPS,
            LIBRARY,
            RECORDED,
            "losses/test_listwise_losses.py::test_list_mle_is_a_distribution_over_all_orders",
            "parity/test_recorded_losses.py::test_equal_labels_cost_less_than_in_whatever_order_they_are_broken",
        ),
        ("loss list_mle",),
        "equal labels do not compete (theirs are put into some order); p-ListMLE is not offered",
    ),
    Method(
        "ADR-MSE",
        "formula in loops; sentence-transformers' ADRMSELoss; Lightning IR's ApproxRankMSE",
        (LOOPS, LIBRARY, RECORDED),
        ("loss adr_mse",),
        "mean over the passages of each query; equal labels share their ranks (Lightning IR: as they come)",
    ),
    Method(
        "ApproxNDCG",
        "formula in loops; allRank, Lightning IR",
        (LOOPS, RECORDED),
        ("loss approx_ndcg",),
        "1 - nDCG (allRank: -nDCG); 0 where no order is better",
    ),
    Method("KL distillation", "formula in loops; Lightning IR", (LOOPS, RECORDED), ("loss kl",)),
    Method(
        "Margin-MSE",
        "formula in loops; sentence-transformers' MarginMSELoss; Lightning IR",
        (
            LOOPS,
            RECORDED,
            "parity/test_sentence_transformers_losses.py::test_margins_of_one_passage_over_several_others",
        ),
        ("loss margin_mse",),
        "over all pairs of a group, ties included",
    ),
    Method(
        "Softmax cross-entropy (RankLLaMA's)",
        "formula in loops; torch's cross-entropy; Lightning IR's InfoNCE",
        (
            LOOPS,
            RECORDED,
            "losses/test_listwise_losses.py::test_softmax_ce_with_one_positive_is_cross_entropy_with_its_index",
        ),
        ("loss softmax_ce",),
        "several best passages do not compete",
    ),
    Method(
        "Pointwise cross-entropy, MSE and RMSE",
        "formula in loops; sentence-transformers' BinaryCrossEntropyLoss and MSELoss; allRank's pointwise_rmse",
        (
            LOOPS,
            RECORDED,
            "parity/test_sentence_transformers_losses.py::test_single_passages_with_probabilities_and_scores",
        ),
        ("loss pointwise_bce", "loss pointwise_mse", "loss pointwise_rmse"),
        "mean over the passages of each query",
    ),
    Method(
        "FIRST: weighted RankNet, ListNet, lambda; scores at the first answer token",
        "formulas in loops; logits of the plain language model",
        (
            "parity/test_published_loss_formulas.py::test_the_weights_of_first_are_those_of_the_formula",
            "losses/test_first_losses.py::test_all_three_on_any_logits",
            "students/test_listwise.py::test_logits_and_loss_are_those_of_the_plain_language_model",
            RELEASED,
        ),
        ("student listwise",),
        "targets are the teacher's ranks (RankLLM: the student's own logits)",
    ),
    Method(
        "RankZephyr, RankVicuna, RankGPT: windows, prompts, repair of answers",
        "RankLLM's logs and runs of DL 2020 on five first stages, exactly; published repair",
        (
            "driver/test_teach_replay.py::test_replaying_rank_vicuna_gives_its_runs_exactly",
            "prompts/test_list_prompts.py::test_a_recorded_prompt_is_rendered_again_to_the_letter",
            "prompts/test_list_prompts.py::test_numbers_are_repaired_as_published",
            RELEASED,
        ),
        ("teacher listwise", "sort sliding_window"),
    ),
    Method(
        "PRP: votes of both orders, all pairs; duoT5",
        "InstructDistill's teacher in plain transformers code; sums by hand",
        (
            "teachers/test_pairwise_teacher.py::test_all_pairs_is_instructdistills_teacher",
            "teachers/test_pairwise_teacher.py::test_votes_ties_and_preferences_are_added_up_as_published",
            "teachers/test_pairwise_teacher.py::test_duot5_adds_the_probabilities_of_both_orders",
        ),
        ("teacher pairwise", "sort allpair"),
    ),
    Method(
        "Heapsort of pairs and of sets (setwise)",
        "every question that llm-rankers 0.0.2 asked, one after the other, and its order; published counts",
        (
            "parity/test_recorded_sorts.py::test_a_heap_asks_the_same_questions_one_after_the_other",
            "test_sorting.py::test_the_number_of_questions_is_as_published",
            "prompts/test_choice_prompts.py::test_the_setwise_prompt_is_the_published_one_to_the_letter",
        ),
        ("teacher setwise", "sort heapsort"),
        "ties go to the passage that the first stage has in front (llm-rankers: to the parent)",
    ),
    Method(
        "Bubblesort of sets",
        "llm-rankers 0.0.2: its top 10",
        ("parity/test_recorded_sorts.py::test_bubblesort_finds_the_top_that_it_finds_there",),
        ("sort bubblesort",),
        "no window is skipped, none asked about twice; those behind the top keep the places they moved to",
    ),
    Method(
        "Pointwise teachers: yes/no, query likelihood, monoT5, Qwen3-Reranker, BGE",
        "softmax by hand; plain transformers code",
        (
            "teachers/test_pointwise_teacher.py::test_the_score_is_the_softmax_of_yes_and_no",
            "students/test_released.py::test_a_teacher_that_asks_takes_the_released_models_own_prompt",
            "engines/test_hf_kinds.py::test_a_likelihood_is_the_sum_over_the_querys_tokens",
        ),
        ("teacher pointwise", "sort pointwise"),
    ),
    Method(
        "Permutation self-consistency; reciprocal rank fusion; Borda",
        "permsc 0.0.6: Borda, reciprocal ranks, and the order nearest to all (Kemeny); sums by hand",
        (
            "parity/test_recorded_fusion.py::test_bordas_count_gives_its_order",
            "parity/test_recorded_fusion.py::test_reciprocal_ranks_give_its_order",
            "parity/test_recorded_fusion.py::"
            "test_what_borda_and_reciprocal_ranks_lose_against_the_nearest_order_of_all",
            "retrieval/test_hybrid.py::test_a_passage_scores_one_over_k_and_its_rank_in_every_run_that_found_it",
        ),
        ("teacher merged",),
        "no Kemeny: at most a tenth more disagreements, or one; ranks begin at 1 (permsc: at 0)",
    ),
    Method(
        "RankLLaMA",
        "plain transformers code, adapters added by hand",
        (
            "students/test_cross_encoder.py::test_tevatrons_reranking_is_reproduced_from_plain_transformers_code",
            RELEASED,
        ),
        ("student cross_encoder",),
    ),
    Method(
        "Cross-encoders: MiniLM, BGE reranker",
        "sentence-transformers' CrossEncoder, FlagReranker",
        (
            "students/test_released.py::test_sentence_transformers_gives_the_same_scores",
            "students/test_released.py::test_flag_embedding_gives_the_same_scores",
        ),
        ("student cross_encoder",),
    ),
    Method(
        "InstructDistill's students (logit of Yes), LLM rerankers",
        "the published snippets in plain transformers code; FlagLLMReranker",
        (
            "students/test_yes_token.py::test_the_yes_row_equals_the_full_vocabularys_logit",
            "students/test_yes_token.py::test_t5_reproduces_the_published_snippet_before_and_after_saving",
            "students/test_llm_ranker.py::test_scores_are_those_of_the_published_snippet",
            RELEASED,
        ),
        ("student yes_token", "student llm_ranker"),
    ),
    Method(
        "ColBERT: MaxSim and its conventions",
        "loops; sentence-transformers' maxsim; FlagEmbedding's BGE-M3; open-retrievals and PyLate in plain code",
        (
            "parity/test_maxsim.py::test_scores_and_gradients_are_those_of_sentence_transformers",
            "parity/test_maxsim.py::test_all_passages_of_a_query_are_a_row_of_its_matrix",
            "parity/test_maxsim.py::test_scores_are_bge_m3s_colbert_scores",
            "parity/test_maxsim.py::test_scores_in_training_are_those_of_bge_m3s",
            "parity/test_maxsim.py::test_scores_are_those_of_loops",
            "students/test_colbert_conventions.py::TestPylate::test_scores_are_the_sum_that_pylate_computes",
            "students/test_colbert_conventions.py::TestOpenRetrievals::"
            "test_the_folder_says_its_convention_and_scores_are_the_published_ones",
            "export/test_multi_vector.py::"
            "test_transformers_and_sentence_transformers_score_an_exported_folder_as_we_do",
        ),
        ("student colbert",),
    ),
    Method(
        "PairRM, PairRanker: scores, losses, matrix, bubble",
        "plain code of the published model; LLM-Blender 0.0.2 on the same matrices; formulas in loops",
        (
            "students/test_pair_ranker.py::test_a_folder_like_pairrm_hf_scores_as_a_plain_implementation",
            "parity/test_recorded_comparisons.py::test_the_scores_of_all_pairs_are_the_means_of_the_symmetrised_matrix",
            "parity/test_recorded_comparisons.py::test_the_ranks_by_comparisons_won_are_the_same",
            "parity/test_recorded_comparisons.py::test_a_bubble_ends_with_the_same_best_and_worst",
            LOOPS,
            RECORDED,
        ),
        ("student pair_ranker", "loss pair_bce", "loss pair_mse", "loss open_instruct_bce"),
        "a bubble begins with the first stage's order (LLM-Blender: at random); a tie is no pair of pair_bce",
    ),
    Method(
        "SimCLS",
        "plain code of the published model; LLM-Blender 0.0.2; formula in loops",
        ("students/test_simcls.py::test_loss_and_gold_term_are_the_published_ones", LOOPS, RECORDED),
        ("student simcls", "loss margin_rank"),
        "equal labels share their ranks, and are no pair",
    ),
    Method(
        "SummaReranker",
        "plain code of its gates and balance; formula in loops",
        (
            "students/test_summa_reranker.py::test_gating_at_inference_is_the_plain_one",
            "students/test_summa_reranker.py::test_load_in_training_is_the_chance_of_the_published_code",
            "students/test_summa_reranker.py::test_the_balance_term_is_the_published_sum_and_every_query_bears_it",
            "parity/test_published_loss_formulas.py::"
            "test_a_loss_over_several_measures_is_the_mean_over_those_that_differ",
        ),
        ("student summa_reranker", "loss metric_bce"),
        "a measure in which all candidates are equal is left out",
    ),
    Method(
        "trec_eval",
        "pytrec_eval, trec_eval's own program (of Anserini) and loops; all 18 runs and 5 candidate lists shipped",
        (
            "parity/test_trec_eval.py::test_runs_with_ties_and_missing_queries_are_measured_as_by_pytrec_eval",
            "parity/test_trec_eval.py::test_measures_are_those_of_loops_over_the_ranks",
            "parity/test_trec_eval.py::test_every_shipped_run_is_measured_as_by_pytrec_eval",
            "parity/test_trec_eval.py::test_every_shipped_run_is_measured_as_by_trec_eval_itself",
            "parity/test_trec_eval.py::test_every_shipped_list_of_candidates_has_its_published_figure",
            "parity/test_trec_eval.py::test_the_shipped_bm25_runs_reach_anserinis_regression_figures",
            "test_metrics.py::test_the_shipped_runs_evaluate_to_their_published_figures",
        ),
    ),
    Method(
        "BM25",
        "formula; Anserini's regression figures of NFCorpus and SciFact; Lucene itself",
        (
            "retrieval/test_bm25.py::test_scores_are_lucenes_formula",
            "retrieval/test_bm25.py::test_published_figures_are_reached",
            "parity/test_anserini_bm25.py::test_words_alone_stand_between_our_figures_and_anserinis",
            "retrieval/test_lucene.py::test_lucene_and_bm25s_agree_on_nfcorpus_and_with_what_anserini_publishes",
        ),
        differs="words of one letter are left out, the stemmer is Snowball's: nDCG@10 .004 and .003 lower",
    ),
)

OWN = ("sort rechecked_heapsort", "teacher student", "teacher qrels")
"""What nobody has published: a sort of ours; teachers that repeat scores or judgements."""


def table() -> str:
    """The table in Markdown."""
    lines = ["| method | compared with | ours differs | tests |", "| --- | --- | --- | --- |"]
    for one in METHODS:
        files = ", ".join(dict.fromkeys(f"`{test.partition('::')[0]}`" for test in one.tests))
        lines.append(f"| {one.name} | {one.against} | {one.differs} | {files} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
