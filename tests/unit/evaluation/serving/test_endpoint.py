import dataclasses

import pytest

from evaluation.serving.endpoint import (
    KEY_VARIABLE,
    check_endpoint,
    find_endpoint,
    find_served_model,
    read_endpoint,
    read_key,
    remove_endpoint,
    write_endpoint,
)
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.served_run import DIGEST, announce, make_run
from voc.errors import ConfigError, EndpointError


def test_a_missing_key_says_where_to_set_it(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=KEY_VARIABLE):
        read_key()


def test_a_model_that_is_not_served_says_how_to_serve_it(tmp_path):
    with pytest.raises(EndpointError, match="evaluation serve --model base"):
        find_endpoint(make_run(tmp_path), "base")


def test_other_weights_behind_the_endpoint_are_refused(tmp_path):
    run = make_run(tmp_path)
    announce(run, StandIn(url="http://127.0.0.1:1/v1"), digest="e" * 64)
    with pytest.raises(EndpointError, match=DIGEST):
        find_served_model(run, "base", DIGEST)


def test_a_server_that_ends_late_leaves_its_successors_record_alone(tmp_path):
    run = make_run(tmp_path)
    old = announce(run, StandIn(url="http://127.0.0.1:1/v1"))
    new = dataclasses.replace(old, url="http://127.0.0.1:2/v1")
    write_endpoint(run, "base", new)
    remove_endpoint(run, "base", old)
    assert read_endpoint(run, "base") == new
    remove_endpoint(run, "base", new)
    assert read_endpoint(run, "base") is None


def test_a_healthy_server_gives_its_card():
    with StandIn(max_model_len=99).serving() as server:
        assert check_endpoint(server.url, "base", KEY)["max_model_len"] == 99


def test_a_wrong_key_and_a_wrong_model_are_told_apart():
    with StandIn().serving() as server:
        with pytest.raises(EndpointError, match=rf"401.*{KEY_VARIABLE}"):
            check_endpoint(server.url, "base", "wrong")
        with pytest.raises(EndpointError, match=r"serves base\. Expected: other"):
            check_endpoint(server.url, "other", KEY)


def test_a_dead_server_is_a_named_error():
    with pytest.raises(EndpointError, match="does not answer"):
        check_endpoint("http://127.0.0.1:1/v1", "base", KEY)
