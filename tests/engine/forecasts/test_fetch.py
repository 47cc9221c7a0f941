import json
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from engine.cli import main
from engine.errors import ConfigError, ForecastError, MissingExtra
from engine.forecasts import fetch as module
from engine.forecasts.fetch import fetch, listed

MODEL, REVISION = "NeoQuasar/Kronos-small", "1" * 40
TOKENIZER, PINNED = "NeoQuasar/Kronos-Tokenizer-base", "0e0117387f39004a9016484a186a908917e22426"
SIZES = {"s1_bits": 2, "s2_bits": 2, "d_model": 8, "n_heads": 1, "ff_dim": 8}
FILES = {
    MODEL: {**SIZES, "n_layers": 1, "learn_te": True},
    TOKENIZER: {**SIZES, "d_in": 6, "n_enc_layers": 1, "n_dec_layers": 1},
}


@pytest.fixture
def hub(tmp_path):
    """A folder that stands for the hub: id/revision/file."""
    from engine.forecasts.kronos.config import ModelConfig, TokenizerConfig

    kinds = {MODEL: (ModelConfig, REVISION), TOKENIZER: (TokenizerConfig, PINNED)}
    for name, (kind, revision) in kinds.items():
        folder = tmp_path / "hub" / name / revision
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(FILES[name]))
        shapes = kind.parse(FILES[name], name).shapes()
        save_file({key: torch.ones(shape) for key, shape in shapes.items()}, folder / "model.safetensors")
    return tmp_path / "hub"


@pytest.fixture
def client(hub, monkeypatch):
    """The hub's client, reading that folder."""
    calls = []

    def hf_hub_download(name, file, *, revision, local_dir, token, endpoint):
        calls.append((name, file, revision, token))
        Path(local_dir, ".cache").mkdir(parents=True, exist_ok=True)
        shutil.copy(hub / name / revision / file, local_dir)

    stub = SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setattr(module, "require", lambda name, **_: stub)
    return calls


def test_a_fetched_model_stands_whole_with_its_hashes(client, tmp_path):
    said, models = [], tmp_path / "models"
    folder = fetch(MODEL, REVISION, models, said.append, token="t")
    assert folder == models / MODEL / REVISION
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        f"{p}/{f}" for p in ("model", "tokenizer") for f in ("config.json", "model.safetensors")
    } | {"manifest.json"}
    assert not list(folder.rglob(".cache")) and [path.name for path in folder.parent.iterdir()] == [REVISION]
    assert {call[2:] for call in client} == {(REVISION, "t"), (PINNED, "t")} and len(client) == 4
    assert json.loads((folder / "manifest.json").read_text())["tokenizer"]["revision"] == PINNED
    (line,) = listed(models)
    assert line.startswith(f"{MODEL} {REVISION} 0.0 MB") and line.endswith("intact")
    assert fetch(MODEL, REVISION, models, said.append) == folder and len(client) == 4
    assert said[-1] == f"{folder} is there already"
    (folder / "model" / "config.json").write_text("{}")
    assert listed(models)[0].endswith("damaged: model/config.json")


@pytest.mark.parametrize(
    ("hub_id", "revision", "tokenizer", "message"),
    [
        (
            "NeoQuasar/Kronos-smal",
            REVISION,
            None,
            "model 'NeoQuasar/Kronos-smal' is not known. Closest: NeoQ",
        ),
        (MODEL, "main", None, "--revision of NeoQuasar/Kronos-small was 'main'; expected the 40 hex digits"),
        (MODEL, REVISION, "v1", "--tokenizer-revision of NeoQuasar/Kronos-Tokenizer-base was 'v1'"),
        (
            "NeoQuasar/Kronos-mini",
            REVISION,
            None,
            "--tokenizer-revision of NeoQuasar/Kronos-Tokenizer-2k was N",
        ),
    ],
)
def test_refuses_what_is_not_known_or_not_pinned(client, tmp_path, hub_id, revision, tokenizer, message):
    with pytest.raises(ConfigError, match=message):
        fetch(hub_id, revision, tmp_path / "models", print, tokenizer_revision=tokenizer)
    assert not client and not (tmp_path / "models").exists()


def left(models):
    return [path for path in models.rglob("*") if path.is_file()]


def test_a_file_that_the_hub_lacks_leaves_nothing(client, hub, tmp_path):
    (hub / TOKENIZER / PINNED / "model.safetensors").unlink()
    with pytest.raises(
        ForecastError, match="model.safetensors of NeoQuasar/Kronos-Tokenizer-base at 0e01173"
    ):
        fetch(MODEL, REVISION, tmp_path / "models", print)
    assert not left(tmp_path / "models")


def test_a_file_that_is_no_model_leaves_nothing(client, hub, tmp_path):
    path = hub / MODEL / REVISION / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ForecastError, match="model.safetensors is damaged"):
        fetch(MODEL, REVISION, tmp_path / "models", print)
    assert not left(tmp_path / "models")


def test_a_model_without_a_tokenizer_stands_in_one_folder(hub, client, tmp_path):
    sizes = {"patch_size": 32, "d_model": 8, "num_heads": 1, "num_layers": 1, "layer_group_size": 1}
    name = "Datadog/Toto-2.0-4m"
    for revision, patch in ((REVISION, 32), (PINNED, "32")):
        there = hub / name / revision
        there.mkdir(parents=True)
        (there / "config.json").write_text(json.dumps({**sizes, "patch_size": patch}))
        shutil.copy(hub / MODEL / REVISION / "model.safetensors", there)
    models = tmp_path / "models"
    folder = fetch(name, REVISION, models, print)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "manifest.json"}
    with pytest.raises(ForecastError, match="config.json is no config of Toto 2"):
        fetch(name, PINNED, models, print)
    assert [path.name for path in (models / name).iterdir()] == [REVISION]


def test_says_which_extra_fetches(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r'models fetch needs huggingface_hub, .*"\.\[kronos\]"'):
        fetch(MODEL, REVISION, tmp_path, print)


@pytest.fixture
def served(hub):
    """The same folder behind the hub's protocol on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):  # noqa: N802
            self.answer(body=False)

        def do_GET(self):  # noqa: N802
            self.answer(body=True)

        def answer(self, body):
            name, _, rest = self.path.strip("/").partition("/resolve/")
            path = hub / name / rest
            if not path.is_file():
                self.send_response(404)
                self.send_header("X-Error-Code", "RevisionNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{path.stat().st_size}-{path.parent.name}-{path.name}"')
            self.send_header("X-Repo-Commit", path.parent.name)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_hub_out_of_reach_is_told_and_leaves_nothing(client, tmp_path, monkeypatch):
    def out_of_reach(*_, **__):
        raise ConnectionError("connection refused\nsecond line")

    monkeypatch.setattr(module, "require", lambda name, **_: SimpleNamespace(hf_hub_download=out_of_reach))
    text = (
        rf"^config.json of {MODEL} at {REVISION} could not be fetched: connection refused \(ConnectionError\)"
    )
    with pytest.raises(ForecastError, match=text):
        fetch(MODEL, REVISION, tmp_path / "models", print)
    assert not left(tmp_path / "models")


@pytest.mark.slow  # the client tries for half a minute
def test_the_real_client_gives_up_on_a_hub_out_of_reach(tmp_path):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(ForecastError, match=r"could not be fetched: .*nothing was written. Try again"):
        fetch(MODEL, REVISION, tmp_path / "models", print, endpoint="http://127.0.0.1:9")
    assert not left(tmp_path / "models")


def test_the_real_client_fetches_from_a_hub_and_tells_of_a_commit_it_lacks(served, tmp_path):
    pytest.importorskip("huggingface_hub")
    models = tmp_path / "models"
    folder = fetch(MODEL, REVISION, models, print, endpoint=served)
    assert listed(models)[0].endswith("intact") and not list(folder.rglob(".cache"))
    with pytest.raises(ForecastError, match=f"config.json of {MODEL} at {'2' * 40} could not be fetched: "):
        fetch(MODEL, "2" * 40, models, print, endpoint=served)
    assert [path.name for path in folder.parent.iterdir()] == [REVISION]


def test_the_command_line_fetches_and_lists(client, tmp_path):
    path = tmp_path / "nightfold.yaml"
    path.write_text("symbols: {AAPL: {}}\n")

    def nightfold(*words):
        return CliRunner().invoke(main, ["--settings", str(path), "models", *words])

    assert "no model in" in nightfold("list").output
    done = nightfold("fetch", MODEL, "--revision", REVISION)
    assert done.exit_code == 0 and f"weights: {MODEL}, revision: {REVISION}" in done.output
    listing = nightfold("list")
    assert listing.exit_code == 0 and listing.output.endswith("intact\n")
    (tmp_path / "data/models" / MODEL / REVISION / "model/config.json").unlink()
    assert nightfold("list").exit_code == 1
    assert nightfold("fetch", MODEL, "--revision", "main").exit_code == 2
    for words in (("fetch", MODEL), ("list", MODEL), ("fetch",)):
        refused = nightfold(*words)
        assert refused.exit_code == 2 and "expected nightfold models fetch ID" in refused.output


def test_the_package_loads_without_the_extras():
    code = (
        "import sys; sys.modules.update(safetensors=None, huggingface_hub=None, chronos=None, toto2=None)\n"
        "import engine.forecasts.infer, engine.forecasts.backends, engine.forecasts.fetch, engine.cli\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
