"""A replica that is killed costs no call."""

import pytest

from ganserve import Client
from tests.scale.conftest import Balance, Deploy
from tests.scale.load import Load

pytestmark = pytest.mark.slow


def test_a_killed_replica_costs_no_call(deploy: Deploy, balance: Balance) -> None:
    replicas = deploy()
    victim, *others = replicas.start(3)
    balancer = balance(replicas)
    ways = {"envoy": Client(balancer.server), "client": Client(replicas.target)}
    with Load(ways, callers=4) as load:
        load.more(100)
        answered = victim.answered()
        before = [other.answered() for other in others]
        victim.process.kill()
        load.more(200)
    assert answered > 0, "it had its share until then"
    assert all(other.answered() > count for other, count in zip(others, before, strict=True))
    assert load.lost == []
