"""Calls are spread evenly over the replicas and reach new ones soon."""

import pytest
import yaml

from ganserve import Client, ServerError
from tests.scale.balancer import LOOPBACK, SHIPPED
from tests.scale.conftest import Balance, Deploy
from tests.scale.load import Load
from tests.scale.replicas import wait_until

pytestmark = pytest.mark.slow


def test_the_way_to_envoys_admin_port_is_on_its_own_machine_only() -> None:
    admin = yaml.safe_load(SHIPPED.read_text())["admin"]["address"]["socket_address"]["address"]
    assert admin == "127.0.0.1"


def test_calls_are_spread_evenly_by_envoy_and_by_the_client_itself(deploy: Deploy, balance: Balance) -> None:
    replicas = deploy()
    started = replicas.start(3)
    for client in (Client(balance(replicas).server), Client(replicas.target)):
        before = [replica.answered() for replica in started]
        with Load({"calls": client}, callers=8) as load:
            load.more(900)
        assert load.lost == []
        counts = [replica.answered() - count for replica, count in zip(started, before, strict=True)]
        even = sum(counts) / len(counts)
        assert all(abs(count - even) <= 0.2 * even for count in counts), counts


def test_what_envoy_shows_to_others_is_its_readiness_and_its_statistics(deploy: Deploy, balance: Balance) -> None:
    replicas = deploy()
    replicas.start(1)
    balancer = balance(replicas)
    assert balancer.get("/ready") == (200, "LIVE\n")
    assert [balancer.get(path)[0] for path in ("/", "/config_dump", "/quitquitquit")] == [404] * 3
    assert balancer.get("/ready", method="POST")[0] == 404


def test_an_envoy_that_is_out_of_memory_refuses_calls_and_is_not_restarted_for_it(
    deploy: Deploy, balance: Balance
) -> None:
    replicas = deploy()
    replicas.start(1)
    balancer = balance(replicas, LOOPBACK, {"max_heap_size_bytes": "1000"})

    def refusal() -> str:
        try:
            client.generate("styled", seeds=1, labels=0)
        except ServerError as error:
            return f"{error.code.name} {error.text}"
        return ""

    with Client(balancer.server, retries=0) as client:
        wait_until(lambda: refusal() == f"UNAVAILABLE {balancer.server}: envoy overloaded", "calls refused")
        assert balancer.get("/ready")[0] == 200


def test_a_new_replica_gets_calls_from_callers_that_were_there_before(deploy: Deploy) -> None:
    replicas = deploy(max_connection_age_s="1")
    replicas.start(1)
    with Load({"client": Client(replicas.target)}, callers=2) as load:
        load.more(20)
        (new,) = replicas.start(1)
        wait_until(lambda: new.answered() >= 20, "calls on the new replica")
    assert load.lost == []
