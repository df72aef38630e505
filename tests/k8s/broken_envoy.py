"""What breaks the policies of Envoy, and with its pods those of all: see `breaking`."""

from tests.k8s.breaking import ABSENT, ENVOY, ENVOY_CONFIG, FIRST, NETWORK, POD, Break
from tests.k8s.rendering import K8S

SHIPPED = (K8S / "components" / "envoy" / "envoy.yaml").read_text()
ON = "cpu+envoy"
POLICY = "NetworkPolicy/ganserve-envoy"
CONFIG = (ON, ENVOY_CONFIG, "data envoy.yaml")

BREAKS = [
    *Break.each(
        "the_image_of_envoy_is_pinned",
        (ON, ENVOY, f"{FIRST} image", "envoyproxy/envoy:distroless-v1.39-latest", "no patch release"),
        (ON, ENVOY, f"{FIRST} image", "envoyproxy/envoy:distroless-v1.35.3", "1.36 or later"),
    ),
    *Break.each(
        "envoy_listens_where_its_pods_say",
        (ON, ENVOY, f"{FIRST} ports 1 containerPort", 9901, "9902"),
        (*CONFIG, SHIPPED.replace("0.0.0.0, port_value: 8001", "0.0.0.0, port_value: 80"), "'grpc': 80"),
    ),
    *Break.each(
        "envoys_are_probed",
        (ON, ENVOY, f"{FIRST} readinessProbe httpGet path", "/", "readinessProbe"),
        (ON, ENVOY, f"{FIRST} livenessProbe", ABSENT, "livenessProbe"),
    ),
    *Break.each(
        "envoy_reaches_the_servers",
        (*CONFIG, SHIPPED.replace("address: ganserve-headless", "address: ganserve"), "none of the headless"),
        (ON, ENVOY, "spec template metadata labels ganserve-client", ABSENT, "let in"),
        (ON, POLICY, "spec egress 1 to 0 podSelector matchLabels app.kubernetes.io/component", "x", "not the servers"),
        (ON, NETWORK, "spec ingress 0 from 0 podSelector matchLabels ganserve-client", "no", "let in"),
    ),
    *Break.each(
        "a_stopping_envoy_is_left_first",
        (ON, ENVOY, f"{FIRST} lifecycle", ABSENT, "after 0 s"),
        (*CONFIG, SHIPPED.replace("max_connection_duration: 60s", "max_connection_duration: 300s"), "for 340 s"),
        (ON, ENVOY, f"{POD} terminationGracePeriodSeconds", 60, "before it is told"),
    ),
    *Break.each(
        "envoy_fits_into_its_pods",
        (ON, ENVOY, f"{FIRST} args 3", "16", "16 threads"),
        (ON, ENVOY, f"{FIRST} resources limits memory", "512Mi", "all of 512Mi"),
    ),
    *Break.each(
        "an_envoy_is_always_there",
        (ON, ENVOY, "spec replicas", 1, "none stay"),
        (ON, "PodDisruptionBudget/ganserve-envoy", "spec maxUnavailable", 2, "none stay"),
    ),
    # Those that hold for every pod hold for Envoy's
    *Break.each("not_root", (ON, ENVOY, f"{POD} securityContext runAsUser", 101, "runAsUser")),
    *Break.each("resources_are_bounded", (ON, ENVOY, f"{FIRST} resources limits cpu", ABSENT, "cpu")),
    *Break.each("volumes_exist", (ON, ENVOY, f"{POD} volumes 0 configMap name", "other", "ConfigMap/other")),
    *Break.each(
        "services_reach_the_ports", (ON, "Service/ganserve-envoy", "spec ports 0 appProtocol", "grpc", "proxy")
    ),
    *Break.each(
        "selectors_find_the_right_pods",
        (ON, "Service/ganserve-envoy", "spec selector app.kubernetes.io/component", ABSENT, "Deployment/ganserve'"),
    ),
    *Break.each(
        "metrics_are_scraped_once", (ON, "ServiceMonitor/ganserve-envoy", "spec endpoints 0 port", "grpc", "[")
    ),
    *Break.each("networks_are_closed", (ON, POLICY, "spec egress 1 ports 0 port", 8002, "lets out")),
    *Break.each("a_stop_loses_nothing", (ON, ENVOY, "spec strategy rollingUpdate maxSurge", 0, "rollout")),
]
