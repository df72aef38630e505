"""What breaks the policies of containers: see `breaking`."""

from tests.k8s.breaking import ABSENT, CONFIG, FIRST, ISVC, JOB, MODELS, POD, RUNTIME, SERVER, Break

BREAKS = [
    *Break.each(
        "not_root",
        ("cpu", SERVER, f"{POD} securityContext runAsNonRoot", False, "runAsNonRoot"),
        ("cpu", JOB, f"{FIRST} securityContext runAsUser", 0, "runAsUser"),
        ("kserve", ISVC, "spec predictor securityContext", {}, "wait-for-models: runAsNonRoot"),
    ),
    *Break.each(
        "root_file_system_read_only",
        ("cpu", SERVER, f"{FIRST} securityContext readOnlyRootFilesystem", ABSENT, "not true"),
        ("gpu", SERVER, f"{POD} initContainers 0 securityContext readOnlyRootFilesystem", False, "wait-for-models"),
    ),
    *Break.each(
        "no_privileges",
        ("cpu", SERVER, f"{FIRST} securityContext allowPrivilegeEscalation", ABSENT, "gain privileges"),
        ("cpu", SERVER, f"{FIRST} securityContext privileged", True, "gain privileges"),
        ("cpu", JOB, f"{FIRST} securityContext capabilities drop", [], "capabilities"),
        ("cpu", JOB, f"{POD} securityContext seccompProfile", ABSENT, "seccompProfile"),
        ("gpu", JOB, f"{POD} hostNetwork", True, "namespace of its node"),
        ("cpu", SERVER, f"{POD} volumes 0", {"name": "x", "hostPath": {"path": "/"}}, "path of its node"),
    ),
    *Break.each(
        "no_service_account_token",
        ("cpu", SERVER, f"{POD} automountServiceAccountToken", ABSENT, "token"),
        ("cpu", "ServiceAccount/ganserve", "automountServiceAccountToken", True, "token"),
    ),
    *Break.each(
        "no_service_links",
        ("cpu", SERVER, f"{POD} enableServiceLinks", ABSENT, "each Service"),
        ("kserve", ISVC, "spec predictor enableServiceLinks", True, "each Service"),
    ),
    *Break.each(
        "resources_are_bounded",
        ("cpu", SERVER, f"{FIRST} resources limits memory", ABSENT, "memory"),
        ("cpu", SERVER, f"{FIRST} resources requests cpu", "64", "more cpu"),
        ("gpu", JOB, f"{FIRST} resources requests nvidia.com/gpu", ABSENT, "nvidia.com/gpu"),
        ("cpu", SERVER, f"{POD} volumes 2 emptyDir", {}, "sizeLimit"),
    ),
    *Break.each(
        "images_are_of_this_version",
        ("cpu", SERVER, f"{FIRST} image", "ghcr.io/ganserve/ganserve:latest", ":latest"),
        ("cpu", JOB, f"{FIRST} image", "ghcr.io/ganserve/ganserve", "not tagged"),
        ("gpu", SERVER, f"{FIRST} image", "ghcr.io/g/g:0.1.0-cpu", "-gpu"),
    ),
    *Break.each(
        "servers_are_probed",
        ("cpu", SERVER, f"{FIRST} readinessProbe", ABSENT, "readinessProbe is missing"),
        ("cpu", SERVER, f"{FIRST} startupProbe httpGet path", "/readyz", "/readyz"),
        ("cpu", SERVER, f"{FIRST} livenessProbe httpGet port", "grpc", "HTTP port"),
        ("cpu", SERVER, f"{FIRST} livenessProbe", {"grpc": {"port": 8001}}, "restart the server"),
        ("cpu", SERVER, f"{FIRST} readinessProbe grpc port", 8002, "gRPC port"),
        ("kserve", RUNTIME, "spec containers 0 livenessProbe httpGet port", 8080, "HTTP port"),
    ),
    *Break.each(
        "ports_are_named",
        ("cpu", SERVER, f"{FIRST} ports 0 name", "web", "web"),
        ("cpu", CONFIG, "data GANSERVE_HTTP_PORT", "9002", "9002"),
        ("kserve", RUNTIME, "spec containers 0 ports 0 name", "grpc", "h2c"),
        ("kserve", RUNTIME, "spec containers 0 args 2", "--grpc-port=9000", "9000"),
    ),
    *Break.each(
        "files_have_a_place",
        ("cpu", CONFIG, "data GANSERVE_REPOSITORY", "/elsewhere", "/elsewhere"),
        ("cpu", CONFIG, "data GANSERVE_ENGINE_CACHE", "/models/cache", "cannot be written"),
        ("cpu", SERVER, f"{FIRST} volumeMounts 2", ABSENT, "/tmp cannot be written"),
        ("cpu", JOB, f"{FIRST} args 1", "/models", "lost+found"),
    ),
    *Break.each(
        "volumes_exist",
        ("cpu", SERVER, f"{POD} volumes 0 persistentVolumeClaim claimName", "other", "other"),
        ("cpu", SERVER, f"{FIRST} envFrom 0 configMapRef name", "ganserve", "ConfigMap/ganserve is nowhere"),
        ("cpu", SERVER, f"{FIRST} volumeMounts 0 name", "none", "is no volume"),
        ("kserve", ISVC, "spec predictor volumes 1 configMap name", "ganserve-models", "is nowhere"),
        ("cpu", SERVER, f"{POD} serviceAccountName", "other", "ServiceAccount/other"),
    ),
    *Break.each(
        "engines_are_built_where_they_run",
        ("gpu", JOB, f"{POD} nodeSelector", {"nvidia.com/gpu.product": "NVIDIA-T4"}, "same kind of node"),
        ("gpu", SERVER, f"{POD} runtimeClassName", ABSENT, "which GPU"),
        ("gpu", JOB, f"{FIRST} resources limits nvidia.com/gpu", ABSENT, "lacks a GPU"),
        ("gpu", MODELS, "data models.txt", "a 1 a\n", "without"),
        ("cpu", MODELS, "data models.txt", "a 1 a --tensorrt rtx\n", "a: exported with"),
    ),
]
