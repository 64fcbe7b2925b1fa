"""An exported folder goes to the hub whole, or stays and the error says how to go on."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import pytest
from hub_server import TOKEN, HubServer
from huggingface_hub import constants
from huggingface_hub.utils import _http
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tevatron_distill.driver import export as driver
from tevatron_distill.driver.common import run_main
from tevatron_distill.export import push as pushing
from tevatron_distill.export.push import check_push, command, push
from tevatron_distill.schema import InputError

# huggingface_hub 2.4 hands its uploads to httpx2 2.16 under the old name
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def folder(tmp_path):
    """A folder as exporting leaves it: a card, settings, weights that go through LFS, and a folder within."""
    (tmp_path / "out" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "out" / "README.md").write_text("---\nlicense: mit\n---\n\n# A student\n", encoding="utf-8")
    (tmp_path / "out" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (tmp_path / "out" / "model.safetensors").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "out" / "1_Pooling" / "config.json").write_text("{}", encoding="utf-8")
    return tmp_path / "out"


@pytest.fixture
def online(monkeypatch):
    """Start a stand-in of the hub, with a token that it knows and waits that do not last."""
    started = []

    def start(faults=None, **keywords):
        server = HubServer(faults, **keywords)
        started.append(server)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        return server

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(pushing, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    yield start
    for server in started:
        server.__exit__()


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def pushed(server, repo_id="org/student", branch="main"):
    files = dict(server.repos[repo_id]["branches"][branch])
    files.pop(".gitattributes")
    return files


def test_the_files_on_the_hub_are_those_of_the_folder(folder, online):
    server = online()
    assert push(folder, "org/student") == f"{server.url}/org/student"
    assert pushed(server) == contents(folder)
    assert server.repos["org/student"]["private"] is False
    assert server.repos["org/student"]["commits"] == ["main"]
    assert len(server.verified) == 1  # the weights went through LFS, with their size and SHA-256


def test_the_way_of_the_newer_storage_gives_the_same_files(folder, online, monkeypatch):
    """What huggingface_hub does where hf_xet is installed, as far as it can be run without that storage."""
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    server = online(all_regular=True)
    push(folder, "org/student")
    assert pushed(server) == contents(folder)


def test_a_branch_and_a_private_repository_are_made(folder, online):
    server = online()
    address = push(folder, "org/student", revision="v2", private=True)
    assert address == f"{server.url}/org/student/tree/v2"
    assert server.repos["org/student"]["private"] is True
    assert pushed(server, branch="v2") == contents(folder)
    assert pushed(server, branch="main") == {}
    push(folder, "org/student", revision="v2", private=True)


def test_a_name_alone_goes_to_the_namespace_of_the_token(folder, online):
    server = online()
    assert push(folder, "student") == f"{server.url}/me/student"
    assert pushed(server, "me/student") == contents(folder)


def test_a_second_push_sends_what_is_new_and_leaves_other_files(folder, online):
    server = online()
    push(folder, "org/student")
    server.repos["org/student"]["branches"]["main"]["notes.md"] = b"mine"
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    puts = sum(asked.startswith("PUT") for asked in server.requests)
    push(folder, "org/student")
    assert sum(asked.startswith("PUT") for asked in server.requests) == puts
    assert pushed(server) == {**contents(folder), "notes.md": b"mine"}


def test_nothing_is_put_into_a_public_repository_that_must_be_private(folder, online):
    server = online()
    server.add("org/student")
    with pytest.raises(InputError, match="everybody can read it; nothing was pushed"):
        push(folder, "org/student", private=True)
    assert pushed(server) == {}


REQUESTS = ["repos/create", "branch/v2", "preupload", "objects/batch", "PUT /lfs", "verify", "commit/"]


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_stumbles_is_asked_again(request_, status, folder, online, caplog):
    server = online({request_: [status]})
    push(folder, "org/student", revision="v2")
    assert pushed(server, branch="v2") == contents(folder)
    assert str(status) in caplog.text


REFUSALS = {
    401: r"does not know the token \(401\); set HF_TOKEN or run `hf auth login`",
    403: r"no right to write there \(403: told to answer 403\)",
    404: r"no model repository of that name",
    400: r"answered 400 \(told to answer 400\)",
}


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_leaves_the_folder_and_says_how_to_go_on(request_, status, folder, online):
    before = contents(folder)
    server = online({request_: [status] * 99})
    with pytest.raises(InputError, match=REFUSALS[status]) as caught:
        push(folder, "org/student", revision="v2")
    message = str(caught.value)
    assert message.endswith(f"then go on with: hf upload org/student {folder} . --revision v2")
    assert "\n" not in message
    assert contents(folder) == before
    server.faults.clear()
    push(folder, "org/student", revision="v2")
    assert pushed(server, branch="v2") == before


def test_a_hub_that_never_recovers_is_given_up(folder, online):
    online({"preupload": [503] * 999})
    with pytest.raises(InputError, match=r"answered 503 .*; wait a little; then go on with: hf upload"):
        push(folder, "org/student")


def test_no_connection_is_one_sentence(folder, online, monkeypatch):
    online()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"no connection to the hub \(.+\); see that there is one; then go on with"):
        push(folder, "org/student")


def test_offline_mode_is_named(folder, online, monkeypatch):
    online()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set; unset it"):
        push(folder, "org/student")


def test_a_card_that_the_hub_refuses_is_told(folder, online):
    server = online()
    (folder / "README.md").write_text("---\nlicense: nonsense\n---\n", encoding="utf-8")
    with pytest.raises(InputError, match=r'Invalid metadata in README\.md\. - "license" must be one of'):
        push(folder, "org/student")
    assert pushed(server) == {}


def test_a_token_is_asked_for_before_any_work(folder, online, monkeypatch, tmp_path):
    server = online()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    for call in (lambda: check_push("org/student"), lambda: push(folder, "org/student")):
        with pytest.raises(InputError, match="needs a token that may write; found none; set HF_TOKEN"):
            call()
    assert not server.requests


@pytest.mark.parametrize("name", ["datasets/org/student", "org/a student", "", "a..b"])
def test_a_name_that_no_model_can_have_is_refused(name, online):
    online()
    with pytest.raises(InputError, match="must be ORGANISATION/NAME"):
        check_push(name)


def test_the_command_that_goes_on_pushes_the_folder(folder, online):
    """huggingface_hub's own program, as the message gives it."""
    server = online()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        words = command(folder, "org/student", "v2", True).split()
        assert words[:2] == ["hf", "upload"]
        done = subprocess.run(
            [sys.executable, "-c", "from huggingface_hub.cli.hf import main; main()", *words[1:]],
            env={"HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert pushed(server, branch="v2") == contents(folder)
    assert server.repos["org/student"]["private"] is True


def test_a_token_is_never_shown(folder, online, caplog):
    caplog.set_level(logging.DEBUG)
    online({"preupload": [403] * 9})
    with pytest.raises(InputError) as caught:
        push(folder, "org/student")
    assert TOKEN not in str(caught.value) + caplog.text


def test_what_was_pushed_is_loaded_by_its_name(online, bert_classifier_folder, tmp_path, monkeypatch):
    server = online()
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    push(bert_classifier_folder, "org/student", revision="v2")
    keywords = {"revision": "v2", "cache_dir": tmp_path}
    model = AutoModelForSequenceClassification.from_pretrained("org/student", **keywords)
    tokenizer = AutoTokenizer.from_pretrained("org/student", **keywords)
    source = AutoModelForSequenceClassification.from_pretrained(bert_classifier_folder)
    inputs = tokenizer(["red"], ["red one"], return_tensors="pt")
    assert model(**inputs).logits.item() == source(**inputs).logits.item()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--push_to_hub"], "needs --hub_model_id"),
        (["--hub_revision", "v2"], "--hub_revision says how to push"),
        (["--hub_private_repo", "--hub_model_id", "org/student"], "--hub_private_repo says how to push"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        driver.main(["--model_name_or_path", "x", "--output_dir", "out", *flags])


def test_the_driver_pushes_what_it_has_exported(online, bert_classifier_folder, tmp_path, caplog):
    caplog.set_level("INFO")
    server = online()
    words = ["--model_name_or_path", str(bert_classifier_folder), "--output_dir", str(tmp_path / "out")]
    driver.main([*words, "--push_to_hub", "--hub_model_id", "org/student", "--hub_private_repo", "--license", "mit"])
    assert pushed(server) == contents(tmp_path / "out")
    assert b"license: mit" in pushed(server)["README.md"]
    assert f"pushed to {server.url}/org/student" in caplog.text


def test_a_push_that_fails_ends_the_program_with_one_sentence_and_leaves_the_folder(
    online, bert_classifier_folder, tmp_path, capsys
):
    online({"preupload": [403] * 9})
    words = ["--model_name_or_path", str(bert_classifier_folder), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as caught:
        run_main(driver.main, [*words, "--push_to_hub", "--hub_model_id", "org/student"])
    assert caught.value.code == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.endswith(f"then go on with: hf upload org/student {tmp_path / 'out'} .")
    assert (tmp_path / "out" / "README.md").is_file()
