"""A student as a reward: TRL's contract of plain texts and conversations, and its GRPO trainer itself."""

from __future__ import annotations

import pytest

import tevatron_distill
from tevatron_distill.adapters.trl import RerankerReward, text_of
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import InputError


class Lengths:
    """Stands in for a student, and keeps what it was shown: a passage's score is its length among its list's."""

    def __init__(self):
        self.shown = []

    def score_candidates(self, lists):
        self.shown += [(one.query, [passage.text for passage in one.passages]) for one in lists]
        return [[float(len(passage.text)) for passage in one.passages] for one in lists]


def test_the_completions_of_a_prompt_are_one_list():
    student = Lengths()
    rewards = RerankerReward(student)(["a?", "b?", "a?"], ["xx", "x", "xxx"], completion_ids=[[1]], trainer_state=None)
    assert rewards == [2.0, 1.0, 3.0]
    assert student.shown == [("a?", ["xx", "xxx"]), ("b?", ["x"])]


def test_of_a_conversation_the_last_question_and_the_answer_are_read():
    student = Lengths()
    prompt = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "before"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "text", "text": "red "}, {"type": "text", "text": "cat?"}]},
    ]
    rewards = RerankerReward(student)(
        prompts=[prompt, prompt],
        completions=[[{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "bb"}]],
    )
    assert (rewards, student.shown) == ([1.0, 2.0], [("red cat?", ["a", "bb"])])


def test_an_empty_completion_is_no_better_than_the_worst():
    student = Lengths()
    rewards = RerankerReward(student)(["a?"] * 3 + ["b?"], ["xxx", " ", "xx", [{"role": "assistant", "content": None}]])
    assert rewards == [3.0, 2.0, 2.0, 0.0]
    assert student.shown[0] == ("a?", ["xxx", "xx"])


def test_a_prompt_without_a_question_is_refused():
    with pytest.raises(InputError, match="a prompt must hold a turn of the user"):
        RerankerReward(Lengths())([[{"role": "system", "content": "x"}]], ["y"])
    assert text_of([{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}]) == "a\nb"


def test_a_students_reward_is_its_score(bert_classifier_folder):
    reranker = Reranker.from_pretrained(str(bert_classifier_folder), device="cpu")
    reward = tevatron_distill.RerankerReward(reranker)
    pairs = [("red", "red cat"), ("red", "green"), ("blue", "blue dog")]
    rewards = reward([query for query, _ in pairs], [text for _, text in pairs])
    assert rewards == pytest.approx(reranker.compute_score(pairs), rel=1e-4, abs=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TRL's own
@pytest.mark.parametrize("conversational", [False, True])
def test_trl_trains_by_it(conversational, llama_folder, bert_classifier_folder, tmp_path):
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    prompts = ["red cat", "blue dog"]
    if conversational:
        tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
        prompts = [[{"role": "user", "content": prompt}] for prompt in prompts]
    reward = RerankerReward(Reranker.from_pretrained(str(bert_classifier_folder), device="cpu"))
    trainer = trl.GRPOTrainer(
        model=str(llama_folder),
        reward_funcs=reward,
        args=trl.GRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            max_steps=1,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=4,
            report_to="none",
            logging_steps=1,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=tokenizer,
    )
    trainer.train()
    assert any("rewards/reranker_reward/mean" in entry for entry in trainer.state.log_history)
