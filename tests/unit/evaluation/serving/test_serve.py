import os
import signal
import socket
import sys
import threading

import pytest

from evaluation.serving import serve as serve_module
from evaluation.serving.endpoint import KEY_VARIABLE, read_endpoint
from evaluation.serving.serve import build_url, find_host, pick_port, serve, verify_model
from tests.unit.evaluation.endpoint_stand_in import KEY
from tests.unit.evaluation.served_run import DIGEST, make_run
from tests.unit.evaluation.serving.test_server_process import wait_until
from voc.errors import ConfigError, IntegrityError, ModelError, ServingError
from voc.run import ModelEntry
from voc.store.local import LocalStore
from voc.store.manifest import commit_folder

# What serve talks to: health, a card behind the key, a version. `die` ends it at the second health check.
SERVER = """
import http.server, json, os, sys
port, mode, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
print("starting on", port, flush=True)
if mode == "refuse":
    sys.exit("fatal: no such model")
if mode == "port":
    sys.exit("OSError: [Errno 98] Address already in use")
if mode == "hang":
    import time; time.sleep(60)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/version" and mode == "die":
            self.answer({"version": "9"}); print("out of memory", flush=True); os._exit(7)
        if self.path == "/health" and mode == "stall" and os.path.exists(sys.argv[4]):
            import time; time.sleep(60)
        allowed = not self.path.startswith("/v1") or self.headers["Authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        self.answer({"version": "9", "data": [{"id": name}]}, 200 if allowed else 401)
    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status); self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    (tmp_path / "base").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (tmp_path / "base" / name).write_text("{}")
    return make_run(tmp_path, serving={"start_timeout_s": 20})


def use_servers(monkeypatch, *modes):
    """Make each start use the next mode; the last one stays. Returns the list of started ports."""
    ports = []

    def build(serving, folder, name, *, host, port):
        ports.append(port)
        mode = modes[min(len(ports), len(modes)) - 1]
        return [sys.executable, "-c", SERVER, str(port), mode, name, str(folder / "stalled")]

    monkeypatch.setattr(serve_module, "build_command", build)
    return ports


def stop_when(condition, number=signal.SIGTERM):
    def watch():
        wait_until(condition, 30)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_healthy_server_is_announced_until_it_is_told_to_stop(run, monkeypatch, number, capfd):
    ports = use_servers(monkeypatch, "work")
    seen = []

    def is_announced():
        seen.append(read_endpoint(run, "base"))
        return seen[-1] is not None

    thread = stop_when(is_announced, number)
    serve(run, "base")
    thread.join()
    assert (seen[-1].model, seen[-1].model_digest, seen[-1].engine) == (f"base@{DIGEST[:16]}", DIGEST, "vllm 9")
    assert seen[-1].restarts == 0
    assert seen[-1].url == f"http://127.0.0.1:{ports[0]}/v1"
    assert read_endpoint(run, "base") is None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", ports[0])) != 0
    assert f"starting on {ports[0]}" in capfd.readouterr().out
    assert f"{run.layout.timings}/serve-base.json" in list(run.store.list_keys())


def test_a_server_that_dies_is_an_error_with_its_last_lines_and_no_record(tmp_path, run, monkeypatch):
    ports = use_servers(monkeypatch, "die")
    run = make_run(tmp_path, serving={"start_timeout_s": 20, "max_restarts": 0})
    with pytest.raises(ServingError, match=r"(?s)died with exit code 7.*out of memory.*0 of 0 restarts"):
        serve(run, "base")
    assert read_endpoint(run, "base") is None
    assert len(ports) == 1


def test_a_server_that_crashes_is_started_again_at_the_same_address(run, monkeypatch, capfd):
    ports = use_servers(monkeypatch, "die", "work")
    seen = []

    def is_back():
        endpoint = read_endpoint(run, "base")
        seen.extend([endpoint] if endpoint and endpoint not in seen[-1:] else [])
        return seen and seen[-1].restarts == 1

    thread = stop_when(is_back)
    serve(run, "base")
    thread.join()
    assert ports[0] == ports[1] == int(seen[-1].url.removesuffix("/v1").rpartition(":")[2])
    assert {endpoint.url for endpoint in seen} == {seen[-1].url}
    assert read_endpoint(run, "base") is None
    assert "restart 1 of 2" in capfd.readouterr().out


def test_restarts_end_at_their_limit_and_a_failed_one_counts(run, monkeypatch):
    ports = use_servers(monkeypatch, "die", "refuse", "die")
    with pytest.raises(ServingError, match=r"(?s)exit code 7.*2 of 2 restarts were used"):
        serve(run, "base")
    assert len(ports) == 3
    assert read_endpoint(run, "base") is None


def test_a_server_that_hangs_is_started_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(serve_module, "HEALTH_EVERY_S", 0.05)
    monkeypatch.setattr(serve_module, "HEALTH_MISSES", 2)
    monkeypatch.setattr("evaluation.serving.endpoint.CHECK_TIMEOUT_S", 0.5)
    ports = use_servers(monkeypatch, "stall", "work")

    def watch():
        wait_until(lambda: read_endpoint(run, "base") is not None, 30)
        (tmp_path / "base" / "stalled").touch()
        wait_until(lambda: read_endpoint(run, "base").restarts == 1, 30)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch)
    thread.start()
    serve(run, "base")
    thread.join()
    assert ports[0] == ports[1]


def test_a_server_that_does_not_start_is_an_error_with_its_last_lines(run, monkeypatch):
    ports = use_servers(monkeypatch, "refuse")
    with pytest.raises(ServingError, match=r"(?s)while it started.*fatal: no such model"):
        serve(run, "base")
    assert len(ports) == 1


def test_a_port_that_was_taken_meanwhile_is_replaced(run, monkeypatch):
    ports = use_servers(monkeypatch, "port", "work")
    thread = stop_when(lambda: read_endpoint(run, "base") is not None)
    serve(run, "base")
    thread.join()
    assert len(ports) == 2


def test_ports_that_are_always_taken_end_in_an_error(run, monkeypatch):
    ports = use_servers(monkeypatch, "port")
    with pytest.raises(ServingError, match="Address already in use"):
        serve(run, "base")
    assert len(ports) == serve_module.PORT_ATTEMPTS


def test_a_start_that_takes_too_long_names_the_setting(tmp_path, run, monkeypatch):
    use_servers(monkeypatch, "hang")
    slow = make_run(tmp_path, serving={"start_timeout_s": 1})
    with pytest.raises(ServingError, match=r"(?s)not healthy after 1 s.*serving\.start_timeout_s"):
        serve(slow, "base")


def test_the_record_of_a_killed_predecessor_is_removed_first(run, monkeypatch):
    run.store.write_bytes(run.layout.endpoint("base"), b"{}")
    use_servers(monkeypatch, "refuse")
    with pytest.raises(ServingError):
        serve(run, "base")
    assert not run.store.exists(run.layout.endpoint("base"))


def test_an_unknown_model_is_named_with_those_that_exist(run):
    with pytest.raises(ConfigError, match=r"no model 'nope'.*one of base"):
        serve(run, "nope")


def test_a_folder_that_lacks_a_file_is_refused_before_anything_starts(run, tmp_path, monkeypatch):
    ports = use_servers(monkeypatch, "work")
    (tmp_path / "base" / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        serve(run, "base")
    assert ports == []


def test_a_candidate_that_changed_after_its_export_is_refused(run, tmp_path):
    manifest = commit_folder(LocalStore(tmp_path), "base", tmp_path / "base")
    entry = ModelEntry("a", "candidate", "A", str(tmp_path / "base"), None)
    assert verify_model(entry) == manifest.digest
    (tmp_path / "base" / "model.safetensors").write_text("{ }")
    with pytest.raises(IntegrityError, match="SHA-256"):
        verify_model(entry)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ServingError, match=r"serving\.host"):
        pick_port("192.0.2.1")


def test_an_address_of_the_sixth_version_is_put_in_brackets():
    assert build_url("127.0.0.1", 80) == "http://127.0.0.1:80/v1"
    assert build_url("::1", 80) == "http://[::1]:80/v1"


def test_the_clusters_network_is_an_address_of_this_machine_and_no_wildcard():
    host = find_host("cluster")
    assert host not in {"0.0.0.0", "::", "cluster"}  # noqa: S104
    assert pick_port(host) > 0
    assert find_host("127.0.0.1") == "127.0.0.1"
