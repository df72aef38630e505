"""What breaks the policies of labels, ports, scaling and metrics: see `breaking`."""

from tests.k8s.breaking import ABSENT, CONFIG, FIRST, HPA, ISVC, JOB, KEDA, NETWORK, PDB, POD, RUNTIME, SERVER, Break

BREAKS = [
    *Break.each(
        "labels_are_consistent",
        ("cpu", "Service/ganserve", "metadata labels app.kubernetes.io/part-of", "x", "lack"),
        ("keda", KEDA, "metadata namespace", "default", "namespace"),
        ("cpu", JOB, "spec template metadata labels app.kubernetes.io/component", "server", "export"),
    ),
    *Break.each(
        "selectors_find_the_right_pods",
        ("cpu", PDB, "spec selector matchLabels app.kubernetes.io/component", "web", "finds []"),
        (
            "cpu",
            "Service/ganserve-headless",
            "spec selector app.kubernetes.io/component",
            ABSENT,
            "Job/ganserve-export",
        ),
        (
            "cpu",
            SERVER,
            f"{POD} topologySpreadConstraints 0 labelSelector matchLabels app.kubernetes.io/name",
            "x",
            "zone",
        ),
        ("cpu", NETWORK, "spec podSelector matchLabels app.kubernetes.io/name", "x", "podSelector"),
    ),
    *Break.each(
        "services_reach_the_ports",
        ("cpu", "Service/ganserve", "spec ports 0 targetPort", 8001, "port grpc"),
        ("cpu", "Service/ganserve", "spec ports 1 port", 80, "port http 80"),
        ("cpu", "Service/ganserve", "spec ports 0 appProtocol", ABSENT, "HTTP/2"),
    ),
    *Break.each(
        "clients_find_ready_replicas",
        ("cpu", "Service/ganserve-headless", "spec clusterIP", ABSENT, "without"),
        ("cpu", "Service/ganserve-headless", "spec publishNotReadyAddresses", True, "not ready"),
    ),
    *Break.each(
        "metrics_are_scraped_once",
        ("cpu", "ServiceMonitor/ganserve", "spec endpoints 0 port", "grpc", "headless"),
        ("cpu", "Service/ganserve", "spec ports 1 name", "web", "through []"),
        ("cpu", "ServiceMonitor/ganserve", "spec endpoints 0 path", "/", "scrapes /"),
    ),
    *Break.each(
        "kserve_knows_the_ports",
        ("kserve", RUNTIME, "spec annotations prometheus.kserve.io/port", "8080", "8080"),
        ("kserve", RUNTIME, "spec annotations prometheus.kserve.io/path", "/m", "/m'"),
        ("kserve", ISVC, "spec predictor model protocolVersion", "v2", "v2"),
        ("kserve", ISVC, "spec predictor model modelFormat name", "triton", "triton"),
        ("kserve", RUNTIME, "spec containers 0 args 1", "--repository=/models", "/models"),
    ),
    *Break.each(
        "networks_are_closed",
        ("cpu", NETWORK, "spec policyTypes", ["Ingress"], "both directions"),
        ("cpu", NETWORK, "spec ingress 0 from", ABSENT, "everything"),
        ("cpu", NETWORK, "spec ingress 1 ports 0 port", "web", "web"),
        ("cpu", NETWORK, "spec egress 0 ports", ABSENT, "everything"),
        ("cpu", "NetworkPolicy/ganserve-export", "spec egress 1 ports 0 port", 80, "80"),
    ),
    *Break.each(
        "settings_are_accepted",
        ("cpu", CONFIG, "data GANSERVE_DRIAN_S", "30", "drian_s"),
        ("gpu", CONFIG, "data GANSERVE_DEVICE", "gpu", "device"),
        ("cpu", CONFIG, "data GANSERVE_MODEL_CONTROL", "explicit", "one replica"),
        ("cpu", SERVER, f"{FIRST} env", [], "cores"),
        ("kserve", RUNTIME, "spec containers 0 args 3", "--htp-port=8002", "htp-port"),
    ),
    *Break.each(
        "a_stop_loses_nothing",
        ("cpu", SERVER, f"{POD} terminationGracePeriodSeconds", ABSENT, "killed after 30 s"),
        ("cpu", CONFIG, "data GANSERVE_DRAIN_S", "120", "may need 135 s"),
        ("cpu", CONFIG, "data GANSERVE_SHUTDOWN_DELAY_S", "0", "endpoints"),
        ("cpu", SERVER, "spec strategy rollingUpdate maxUnavailable", 1, "rollout"),
    ),
    *Break.each(
        "one_scaler_keeps_two_replicas",
        ("cpu", HPA, "spec scaleTargetRef name", "other", "other"),
        ("cpu", HPA, "spec minReplicas", 1, "none stay"),
        ("keda", KEDA, "spec scaleTargetRef kind", "StatefulSet", "StatefulSet"),
        ("cpu", SERVER, "spec replicas", 3, "undo"),
        ("kserve", ISVC, "spec predictor minReplicas", 1, "one replica"),
    ),
    *Break.each(
        "hpa_asks_for_adapter_metrics",
        ("cpu", HPA, "spec metrics 0 pods metric name", "DCGM_FI_DEV_GPU_UTIL", "none of the adapter's"),
        ("cpu", HPA, "spec metrics 0 pods target averageValue", "0", "no target"),
    ),
    *Break.each(
        "queries_read_exported_metrics",
        ("keda", KEDA, "spec triggers 2 metadata query", 'sum(ganserve_in_flight{rpc!~"x"})', "ganserve_in_flight"),
        ("keda", KEDA, "spec triggers 2 metadata query", "sum(ganserve_requests_in_flight)", "stay open"),
        ("keda", KEDA, "spec triggers 1 metricType", "AverageValue", "AverageValue of"),
        (
            "kserve",
            ISVC,
            "spec predictor autoScaling metrics 0 external metric query",
            "sum(nv_gpu_utilisation)",
            "nv_gpu_utilisation",
        ),
    ),
    *Break.each(
        "keda_agrees_with_the_hpa",
        ("keda", KEDA, "spec triggers 1 metadata threshold", "0.5", "objectives"),
        ("keda", KEDA, "spec maxReplicaCount", 100, "other ends"),
        ("keda", KEDA, "spec triggers 0 metadata threshold", "1", "objectives"),
        (
            "keda",
            KEDA,
            "spec advanced horizontalPodAutoscalerConfig behavior scaleDown stabilizationWindowSeconds",
            0,
            "behaviour",
        ),
        (
            "keda",
            KEDA,
            "spec triggers 1 metadata query",
            "sum(rate(ganserve_queue_seconds_sum[5m])) / sum(rate(ganserve_queue_seconds_count[5m]))",
            "KEDA asks",
        ),
    ),
]

# What of a rule's query becomes what, and what is then said
RULE_BREAKS = [
    ("queue_seconds_count", "queue_total", "ganserve_queue_total"),
    ("Check|", "", "stay open"),
]
