"""What is MLX's own: model folders, tokenizers, memory; what every runtime does is in `test_drivers.py`."""

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_driver import check_same_choices
from runtimes import LONG, REQUEST, Runtime, check_fails, run
from singlepass_backends.base import BackendError, GenerateRequest, Segment, Target
from singlepass_backends.drivers.mlx.cache import BLOCK, pack, unpack
from singlepass_backends.drivers.mlx.driver import failure
from singlepass_backends.drivers.mlx.hf_tokenizer import HfTokenizer
from singlepass_backends.drivers.mlx.model_folder import read_folder
from singlepass_backends.testing.gguf_to_mlx import write_mlx_model

mx = importlib.import_module("mlx.core")


@pytest.fixture
def copy(mlx_model: Path, tmp_path: Path) -> Path:
    """A model folder to spoil."""
    return Path(shutil.copytree(mlx_model, tmp_path / "model"))


def change(path: Path, **values: object) -> None:
    """Set fields of a JSON file; None takes one out."""
    data = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def mlx_target(model: Path, **settings: object) -> Target:
    return Target(backend="mlx", model=str(model), n_ctx=256, **settings)


# Folders that cannot be used.


def test_missing_folders(tmp_path: Path, random_model: Path) -> None:
    check_fails(mlx_target(tmp_path / "none"), "model_missing", "none", "nothing is downloaded")
    check_fails(mlx_target(Path("org/some-model")), "model_missing", "nothing is downloaded")
    check_fails(mlx_target(random_model), "model_missing", "is a file", "llama_cpp")
    check_fails(Target(model=str(tmp_path)), "model_missing", 'backend = "mlx"')


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda path: (path / "config.json").unlink(), "model_invalid", "config.json"),
        (lambda path: (path / "tokenizer.json").unlink(), "model_invalid", "tokenizer.json"),
        (lambda path: (path / "model.safetensors").unlink(), "model_invalid", "safetensors"),
        (lambda path: truncate(path / "config.json"), "model_invalid", "cannot be read"),
        (lambda path: truncate(path / "tokenizer.json"), "model_invalid", "cannot be read"),
        (lambda path: truncate(path / "model.safetensors"), "model_invalid", "cannot load"),
        (lambda path: (path / "config.json").write_text("[" * 100_000), "model_invalid", "config.json"),
        (lambda path: (path / "config.json").write_text("[1]"), "model_invalid", "config.json"),
        (lambda path: change(path / "config.json", model_type=None), "model_invalid", "model_type"),
        (lambda path: change(path / "config.json", model_type="madeup"), "model_unsupported", "'madeup'"),
        (lambda path: change(path / "config.json", model_type="../x"), "model_unsupported", "../x"),
        (lambda path: change(path / "config.json", model_file="run.py"), "model_unsupported", "run.py"),
        (lambda path: change(path / "config.json", hidden_size=96), "model_invalid", "cannot load"),
        (lambda path: change(path / "config.json", hidden_size="wide"), "model_invalid", "cannot load"),
        (lambda path: change(path / "config.json", num_hidden_layers=3), "model_invalid", "cannot load"),
        (lambda path: change(path / "config.json", num_attention_heads=0), "model_invalid", "cannot load"),
        (lambda path: change(path / "tokenizer.json", model={"type": "X"}), "model_invalid", "tokenizer"),
        (
            lambda path: (path / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'
            ),
            "model_invalid",
            "model-2.safetensors",
        ),
        (lambda path: (path / "chat_template.jinja").write_bytes(b"\xff"), "model_invalid", "jinja"),
    ],
)
def test_folders_that_cannot_be_used(
    copy: Path, spoil: Callable[[Path], object], code: str, words: str
) -> None:
    spoil(copy)
    check_fails(mlx_target(copy), code, words)


def test_code_that_a_model_brings_is_never_run(copy: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (copy / "run.py").write_text(f"open({str(ran)!r}, 'w')")
    change(copy / "config.json", model_file="run.py", auto_map={"AutoModel": "run.Model"})
    check_fails(mlx_target(copy), "model_unsupported", "runs no code")
    change(copy / "config.json", model_file=None)
    change(copy / "tokenizer_config.json", auto_map={"AutoTokenizer": ["run.T", None]}, tokenizer_class="T")
    Runtime("mlx", copy, copy).driver().close()
    assert not ran.exists()


def test_without_mlx(monkeypatch: pytest.MonkeyPatch, mlx_model: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "mlx_lm", None)
        check_fails(mlx_target(mlx_model), "unsupported", "singlepass[mlx]")
    monkeypatch.setattr(importlib.import_module("mlx_lm"), "__version__", "0.31.9")
    check_fails(mlx_target(mlx_model), "unsupported", "0.31.9", "--upgrade")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RuntimeError("[metal::malloc] Attempting to allocate 9 bytes"), "out_of_memory", "`n_ctx`"),
        (RuntimeError("[malloc] Unable to allocate 64 bytes."), "out_of_memory", "smaller model"),
        (MemoryError(), "out_of_memory", "smaller model"),
        (ValueError("Model type x not supported."), "model_unsupported", "'x'"),
        (ValueError("Missing 2 parameters: \nlm_head.bias,\nx"), "model_invalid", "Missing 2 parameters"),
        (KeyError(), "model_invalid", "KeyError"),
    ],
)
def test_what_the_errors_of_mlx_mean(error: Exception, code: str, words: str) -> None:
    found = failure(Path("/models/m"), error, "x")
    assert found.code == code
    assert words in found.message
    assert "/models/m" in found.message


def test_running_out_of_memory_in_a_pass_is_told(mlx: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = mlx.open()
    expected, _ = run(backend, REQUEST)
    for text, code in (("[malloc] Unable to allocate 64 bytes.", "out_of_memory"), ("broken", "internal")):

        def fail(*_: object, text: str = text) -> None:
            raise RuntimeError(text)

        with monkeypatch.context() as patch:
            patch.setattr(mx, "eval", fail)
            with pytest.raises(BackendError) as caught:
                run(backend, REQUEST)
        assert caught.value.code == code
        assert run(backend, REQUEST)[0] == expected
    backend.close()


# What a folder says.


def test_names(copy: Path, tmp_path: Path) -> None:
    change(copy / "config.json", _name_or_path="mlx-community/Some-7B-4bit")
    assert read_folder(copy).name == "Some-7B-4bit"
    change(copy / "config.json", _name_or_path=None)
    assert read_folder(copy).name == "model"
    cached = tmp_path / "models--mlx-community--Other-4bit" / "snapshots" / "0123abcd"
    shutil.copytree(copy, cached)
    assert read_folder(cached).name == "Other-4bit"


def test_context_and_ends_of_replies(copy: Path) -> None:
    change(copy / "config.json", max_position_embeddings=None, text_config={"max_position_embeddings": 99})
    (copy / "generation_config.json").write_text('{"eos_token_id": [3, 2047]}')
    folder = read_folder(copy)
    assert folder.n_ctx_train == 99
    assert folder.eos_ids == (3, 2047)
    assert HfTokenizer(folder, 2048).eog_tokens == {3, 2045, 2047}
    assert folder.size_bytes > 800_000


def test_chat_templates(copy: Path) -> None:
    path = copy / "tokenizer_config.json"
    assert "<|im_start|>" in (read_folder(copy).chat_template or "")
    change(path, chat_template=[{"name": "tools", "template": "a"}, {"name": "default", "template": "b"}])
    assert read_folder(copy).chat_template == "b"
    (copy / "chat_template.jinja").write_text("c")
    assert read_folder(copy).chat_template == "c"
    (copy / "chat_template.jinja").unlink()
    path.unlink()
    assert read_folder(copy).chat_template is None


# Tokenizers.


def tokenizer(copy: Path, n_vocab: int = 2048) -> HfTokenizer:
    return HfTokenizer(read_folder(copy), n_vocab)


def check_exact(found: HfTokenizer, *texts: str) -> None:
    for text in texts:
        tokens = found.tokenize(text.encode(), special=False)
        assert b"".join(map(found.piece, tokens)) == text.encode()


def test_normalization_and_added_spaces_are_left_out(copy: Path) -> None:
    change(
        copy / "tokenizer.json",
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
        truncation={"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    )
    check_exact(tokenizer(copy), "e\u0301 É", "x", "def f(): pass\n" * 20)


def test_tokens_added_as_text_stay_text(copy: Path) -> None:
    data = json.loads((copy / "tokenizer.json").read_text())
    added = {**data["added_tokens"][0], "id": 2048, "content": "<tool>", "special": False, "rstrip": True}
    change(copy / "tokenizer.json", added_tokens=[*data["added_tokens"], added])
    found = tokenizer(copy, 2100)
    assert found.piece(2048) == b"<tool>"
    assert 2048 in found.tokenize(b"a <tool> b", special=False)
    check_exact(found, "a <tool>  \n b <|im_end|>")
    assert set(range(2049, 2100)) < found.control_tokens  # the model knows more tokens than the tokenizer


def test_tokens_in_front(copy: Path) -> None:
    assert tokenizer(copy).bos_tokens == ()
    config = copy / "tokenizer_config.json"
    change(config, bos_token={"content": "<|endoftext|>"}, add_bos_token=True)
    assert tokenizer(copy).bos_tokens == (2045,)
    assert tokenizer(copy).special_texts["bos_token"] == "<|endoftext|>"
    change(config, add_bos_token=None)
    assert tokenizer(copy).bos_tokens == ()
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
    }
    change(copy / "tokenizer.json", post_processor={"type": "Sequence", "processors": [template]})
    assert tokenizer(copy).bos_tokens == (2045,)
    change(config, add_bos_token=False)
    assert tokenizer(copy).bos_tokens == ()


def sentencepiece(copy: Path, *, byte_fallback: bool) -> None:
    """Put a tokenizer like Llama 2's into the folder."""
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "d", "e", "f", "de"]
    pieces += ["def", "\u2581def", "\u2581\u2581"]
    special = {"special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
    vocab = {piece: id for id, piece in enumerate(pieces) if byte_fallback or not piece.startswith("<0x")}
    data = {
        "added_tokens": [{"id": 0, "content": "<unk>", **special}, {"id": 1, "content": "</s>", **special}],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        },
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": byte_fallback,
            "vocab": vocab,
            "merges": ["d e", "de f", "\u2581 def", "\u2581 \u2581"],
        },
    }
    (copy / "tokenizer.json").write_text(json.dumps(data))
    change(copy / "tokenizer_config.json", eos_token="</s>")
    change(copy / "config.json", eos_token_id=None)


def test_sentencepiece(copy: Path) -> None:
    sentencepiece(copy, byte_fallback=True)
    found = tokenizer(copy)
    assert len(found.tokenize(b" def", special=False)) == 1
    assert len(found.tokenize(b"def", special=False)) == 1  # without a space in front
    check_exact(found, "def  def\t\n", "naïve 日本 🙂 </s>")
    assert found.eog_tokens == {1}
    data = json.loads((copy / "tokenizer.json").read_text())
    data["normalizer"] = None
    data["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}
    (copy / "tokenizer.json").write_text(json.dumps(data))
    check_exact(tokenizer(copy), "def  def\t\n", "naïve 日本 🙂 </s>")


def test_tokenizers_that_cannot_be_used(copy: Path) -> None:
    with pytest.raises(BackendError, match="do not belong together") as caught:
        tokenizer(copy, 2000)
    assert caught.value.code == "model_invalid"
    sentencepiece(copy, byte_fallback=False)
    with pytest.raises(BackendError, match="changes text") as caught:
        tokenizer(copy)
    assert caught.value.code == "model_unsupported"
    change(copy / "tokenizer_config.json", eos_token="none")
    with pytest.raises(BackendError, match="which token ends a reply") as caught:
        tokenizer(copy)
    assert caught.value.code == "model_invalid"


# The caches.


def test_a_model_in_16_bits(random_model: Path, tmp_path: Path) -> None:
    write_mlx_model(tmp_path / "model", random_model, "F16")
    runtime = Runtime("mlx", tmp_path / "model", tmp_path / "model")
    cold, backend = runtime.watched(runtime.target())
    run(backend, REQUEST)
    state = bytes(cold.save(0))
    n_tokens = backend.n_cached
    backend.close()
    warm, backend = runtime.watched(runtime.target())
    assert warm.load(state, n_tokens)
    assert bytes(warm.save(0)) == state
    warm.clear()
    run(backend, REQUEST)
    check_same_choices(warm.choices, cold.choices)
    backend.close()


def test_what_is_no_state_of_this_model_is_refused(mlx: Runtime) -> None:
    driver = mlx.driver(mlx.target(n_ctx=2048, n_batch=2048))
    tokens = driver.tokenize(LONG.text.encode(), special=False)[: BLOCK + 10]
    driver.forward(tokens, 0, n_logits=0)
    good = bytes(driver.save(0))
    assert driver.load(good, len(tokens))
    other = mlx.driver(mlx.target("hybrid"))
    other.forward(tokens[:40], 0, n_logits=0)
    states = [good[:-1], good + b"x", good[:20], good[1:], bytes(other.save(0)), bytes(pack(None))]
    states += [bytes(pack([(), ()])), bytes(pack([((),) * 2, ()])), b"sp-mlx\x00\x01\x00\x00\x00\x01\xc0"]
    for state in states:
        driver.trim(0)
        assert not driver.load(state, len(tokens))
    for n in (len(tokens) - 1, len(tokens) + 1, BLOCK, 0):
        assert not driver.load(good, n)
    assert driver.load(good, len(tokens))
    assert not other.restore(b"", 20)
    assert not other.restore(pack(((mx.zeros((3,)),),)), 20)
    assert not other.restore(other.checkpoint(), 41)
    driver.close()
    other.close()


def test_states_as_bytes() -> None:
    tree = [
        (mx.array([[1.5, -0.0]], dtype=mx.bfloat16), mx.array(7, dtype=mx.uint32)),
        {"a": [None, 3, "x", True], "b": mx.zeros((0, 4))},
    ]
    back = unpack(pack(tree))
    assert back[1]["a"] == [None, 3, "x", True]
    assert back[1]["b"].shape == (0, 4)
    assert isinstance(back[0], tuple)
    assert back[0][0].dtype == mx.bfloat16
    assert bytes(pack(back)) == bytes(pack(tree))


def test_kept_sequences_share_what_they_have_in_common(mlx: Runtime) -> None:
    """Sixteen copies of 3,000 tokens need the memory of one, and give it back."""
    driver = mlx.driver(mlx.target(n_ctx=4096, n_batch=512))
    tokens = (driver.tokenize(LONG.text.encode(), special=False) * 2)[:3000]
    for at in range(0, len(tokens), 500):
        driver.forward(tokens[at : at + 500], at, n_logits=0)
    empty = mx.get_active_memory()
    driver.copy(0, 1, 3000)
    one = mx.get_active_memory() - empty
    for sequence in range(2, 16):
        driver.copy(0, sequence, 3000)
    ends = 14 * one * (3000 % BLOCK) // 3000
    assert mx.get_active_memory() - empty < one + 1.1 * ends
    for sequence in range(1, 16):
        driver.trim(BLOCK, sequence)
    driver.trim(0)
    assert mx.get_active_memory() < empty
    driver.close()


def test_a_sliding_window_goes_back_by_checkpoints(
    mlx: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its caches rotate: once they have, the beginning is lost."""
    model = importlib.import_module("mlx_lm.models.qwen2").Model
    rotating = importlib.import_module("mlx_lm.models.cache").RotatingKVCache
    monkeypatch.setattr(model, "make_cache", lambda self: [rotating(64) for _ in self.layers], raising=False)
    target = mlx.target(n_ctx=4096, n_batch=128)
    driver, backend = mlx.watched(target, tmp_path / "cache")
    assert not backend.info.can_trim
    rules = Segment("rules", "You edit code.\n" * 90, "system", shared=True)
    other = Segment("b.py", "x = 1\n" * 200)
    for file, task, most in ((LONG, "a", 4000), (LONG, "b", 40), (other, "a", 1300), (LONG, "c", 40)):
        driver.choices.clear()
        request = GenerateRequest((rules, file, Segment("task", task)), max_tokens=8)
        _, finished = run(backend, request)
        assert finished.timings.n_prefilled < most
        cold, cold_backend = mlx.watched(target)
        run(cold_backend, request)
        cold_backend.close()
        check_same_choices(driver.choices, cold.choices)
    backend.close()
    driver, backend = mlx.watched(target, tmp_path / "cache")
    _, finished = run(backend, request)
    assert finished.timings.n_cached > 300
    check_same_choices(driver.choices, cold.choices)
    backend.close()


def test_a_cache_that_cannot_be_quantized(mlx: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = importlib.import_module("mlx_lm.models.cache").QuantizedKVCache

    def refuse(*_: object) -> None:
        raise ValueError("Quantized SDPA does not support attention sinks.")

    monkeypatch.setattr(cache, "update_and_fetch", refuse)
    check_fails(mlx.target(kv_cache_type="q4_0"), "unsupported", "`kv_cache_type`", "sinks", "f16")
    mlx.driver().close()
