"""All replicas are replaced by new ones under constant load."""

from functools import partial

import pytest
from grpc_health.v1 import health_pb2

from ganserve import Client
from tests.scale.cluster_address import ClusterAddress
from tests.scale.conftest import Balance, Deploy
from tests.scale.load import Load
from tests.scale.name_server import NameServer
from tests.scale.replicas import Replica, wait_until

pytestmark = pytest.mark.slow

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_rolling_replacement_loses_no_call_whichever_front_end_stops(
    names: NameServer, deploy: Deploy, balance: Balance
) -> None:
    replicas = deploy()
    old = [*replicas.start(2, frontend="grpcio"), *replicas.start(1, frontend="native")]
    balancer = balance(replicas)
    cluster_ip = ClusterAddress(lambda: [(host, replicas.port) for host in names.addresses])
    ways = {
        "envoy": Client(balancer.server),
        "envoy, client without retries": Client(balancer.server, retries=0),
        "client": Client(replicas.target),
        "cluster IP": Client(cluster_ip.server),
    }
    with cluster_ip, Load(ways, callers=2) as load:
        load.more(50)
        for replica in old:
            replicas.start(1)
            replica.process.terminate()
            wait_until(partial(has_left, replica), "not ready any more")
            with Client(replica.server, retries=0) as late:
                assert late.generate("styled", seeds=1, labels=0), "its socket closes later"
            assert replica.health() == NOT_SERVING
            replicas.unlist(replica)
            assert replica.process.wait() == 0, replica.process.log
        load.more(50)
    # Calls that gRPC core has not delivered when its server stops end as CANCELLED (docs/adr/0001-frontends.md): hardly
    # ever one, and clients that retry never see it.
    raced = [each for each in load.lost if "without retries" in each and ": CANCELLED " in each]
    assert len(raced) <= 1, raced
    assert [each for each in load.lost if each not in raced] == []


def test_an_envoy_that_waits_for_its_callers_to_leave_stops_without_losing_a_call(
    deploy: Deploy, balance: Balance
) -> None:
    replicas = deploy()
    replicas.start(2)
    stopping, staying = (
        balance(replicas, host, {"max_connection_duration": "1s"}) for host in ("127.0.8.1", "127.0.8.2")
    )
    endpoints = [(envoy.host, envoy.port) for envoy in (stopping, staying)]
    with ClusterAddress(lambda: endpoints) as cluster_ip:
        clients = {name: Client(cluster_ip.server, retries=0) for name in ("one", "other", "third")}
        with Load(clients, callers=2) as load:
            wait_until(lambda: min(envoy.connections() for envoy in (stopping, staying)) > 0, "callers at both")
            load.more(20)
            del endpoints[0]
            wait_until(lambda: stopping.connections() == 0, "all have left")
            assert stopping.told_to_stop() == 0
            load.more(20)
    # gRPC's client may open a stream just as GOAWAY arrives; it then gives the call up, which only a retry repeats
    # (our client has them by default).
    raced = [each for each in load.lost if "UNAVAILABLE" in each and ": Stream removed (GOAWAY received" in each]
    assert len(raced) <= 1, raced
    assert [each for each in load.lost if each not in raced] == []


def has_left(replica: Replica) -> bool:
    return not replica.is_ready()
