from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from tevatron_distill.schema import InputError
from tevatron_distill.students import LoadOptions, LoraOptions, load_student


def load(folder, **options):
    return load_student(str(folder), "cross_encoder", options=LoadOptions(training=True, quantize=True, **options))


def test_a_model_in_four_bits_without_an_adapter_is_refused(llama_folder):
    with pytest.raises(InputError, match="add --lora"):
        load(llama_folder)


def test_four_bits_without_bitsandbytes_name_the_extra(llama_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match=r"tevatron-distill\[qlora\]"):
        load(llama_folder, lora=LoraOptions())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_four_bits_without_a_gpu_are_refused(llama_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", ModuleType("bitsandbytes"))
    with pytest.raises(InputError, match="needs a GPU"):
        load(llama_folder, lora=LoraOptions())


def test_ranking_with_a_trained_adapter_needs_no_four_bits(llama_folder):
    from tevatron_distill.arguments.model import ModelArguments

    arguments = ModelArguments(str(llama_folder), use_quantization_config=True, lora=True)
    assert arguments.load_options(training=True).quantize
    assert not arguments.load_options(training=False).quantize
