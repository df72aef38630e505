"""The servers that are measured beside ours, each with the versions that its Python gets from PyPI."""

from dataclasses import dataclass
from pathlib import Path

SERVERS = Path(__file__).with_name("servers")


@dataclass(frozen=True)
class Peer:
    """`name`: as the table has it. `requirements`: beside ONNX Runtime, which all have in our version. `takes_json`: a
    list in place of bytes."""

    key: str
    name: str
    requirements: tuple[str, ...]
    is_grpc: bool = False
    takes_json: bool = False

    @property
    def program(self) -> Path:
        return SERVERS / f"{self.key}_.py"


PEERS = (
    Peer("triton", "Triton 2.51, Python backend", ("nvidia-pytriton==0.7.0",), is_grpc=True),
    Peer("mosec", "mosec 0.9.8", ("mosec==0.9.8",)),
    Peer("mlserver", "MLServer 1.7.1", ("mlserver==1.7.1",), is_grpc=True),
    Peer("kserve", "KServe 0.21", ("kserve==0.21.0",), is_grpc=True),
    Peer("bentoml", "BentoML 1.4.40", ("bentoml==1.4.40",)),
    Peer("litserve", "LitServe 0.2.19", ("litserve==0.2.19",), takes_json=True),
    Peer("ray", "Ray Serve 2.60", ("ray[serve]==2.60.0",)),
    Peer("grpcio", "grpcio by hand", ("grpcio==1.85.3", "tritonclient[grpc]==2.73.0"), is_grpc=True),
    Peer("fastapi", "FastAPI by hand", ("fastapi==0.165.0", "uvicorn[standard]==0.54.0")),
)
