# Three images:
#   docker build --target server-cpu --tag ghcr.io/ganserve/ganserve-cpu:0.1.0 .
#   docker build --target server-gpu --tag ghcr.io/ganserve/ganserve-gpu:0.1.0 .
#   docker build --target export --tag ghcr.io/ganserve/ganserve-export:0.1.0 .
# Python packages are pinned in constraints.txt, the base image by its tag. To pin its bytes as well, look up the digest
# (docker buildx imagetools inspect python:3.12-slim-bookworm) and pass the whole name:
#   --build-arg PYTHON_IMAGE=python:3.12-slim-bookworm@sha256:<digest>
# Packages come from PyPI; PIP_INDEX_URL names a mirror. PyPI's torch brings gigabytes of CUDA. Without them:
#   docker build --target export --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ...
# The GPU server and the exporter have TensorRT for RTX. Classic TensorRT instead, in both (data-centre GPUs such as the
# H100; its libraries are in NVIDIA's package index):
#   --build-arg TENSORRT=tensorrt --build-arg PIP_EXTRA_INDEX_URL=https://pypi.nvidia.com
ARG TENSORRT=tensorrt-rtx
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

# The project's own wheels, and the pip that fills the environments: neither is in a server's image.
FROM ${PYTHON_IMAGE} AS wheel
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_CONSTRAINT=/source/constraints.txt
WORKDIR /source
COPY constraints.txt ./
RUN python3 -m venv /opt/build \
  && /opt/build/bin/pip install --no-cache-dir --constraint constraints.txt hatchling
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY artifact artifact
COPY export export
COPY ganserve ganserve
COPY models models
COPY server server
RUN ["/opt/build/bin/pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "/wheels", ".", "./models/zoo/weights"]

# Environments, one for each image. pip leaves their bytecode: a read-only container could not keep what it compiles.
# Of OpenVINO only what reads ONNX and runs on a CPU is kept: 103 of 180 MB.
FROM wheel AS environment-cpu
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN python3 -m venv --without-pip /opt/ganserve \
  && set -- /wheels/ganserve-*.whl \
  && /opt/build/bin/pip --python /opt/ganserve/bin/python install --no-cache-dir "$1[cpu,native,tracing]" \
  && find /opt/ganserve -type d \( -name tests -o -path '*/openvino/include' \) -prune -exec rm -r {} + \
  && find /opt/ganserve -path '*/openvino/libs/*' \( -name '*_[gn]pu_plugin.so' -o -name cache.json -o -name '*tensorflow*' \
     -o -name '*pytorch*' -o -name '*paddle*' -o -name '*jax*' -o -name '*gguf*' \) -delete

FROM wheel AS environment-gpu
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG TENSORRT
RUN python3 -m venv --without-pip /opt/ganserve \
  && set -- /wheels/ganserve-*.whl \
  && /opt/build/bin/pip --python /opt/ganserve/bin/python install --no-cache-dir "$1[cuda,${TENSORRT},native,tracing]" \
  && find /opt/ganserve -type d -name tests -prune -exec rm -r {} +

# With the zoo's own weights, and with pip, which fetches those of others.
FROM wheel AS environment-export
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG TENSORRT
RUN python3 -m venv /opt/ganserve \
  && set -- /wheels/ganserve-*.whl \
  && /opt/ganserve/bin/pip install --no-cache-dir "$1[export,${TENSORRT}]" /wheels/ganserve_zoo_weights-*.whl \
  && find /opt/ganserve -type d \( -name tests -o -path '*/torch/test' -o -path '*/torch/include' \) -prune -exec rm -r {} +

# What all images share. Writes go to /tmp alone, so that the root file system can be read-only.
FROM ${PYTHON_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ganserve" \
  org.opencontainers.image.description="An inference microservice for trained GAN generators" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.source="https://github.com/ganserve/ganserve" \
  org.opencontainers.image.documentation="https://github.com/ganserve/ganserve/blob/main/docs/deploy.md" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.base.name="docker.io/library/python:3.12-slim-bookworm"
RUN groupadd --gid 10001 ganserve \
  && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ganserve
ENV PATH=/opt/ganserve/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001

FROM runtime AS server
# On loopback, the default, nobody outside the container would reach it.
ENV GANSERVE_REPOSITORY=/models GANSERVE_HOST=0.0.0.0
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('GANSERVE_HTTP_PORT', 8002)), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["ganserve"]
CMD ["serve"]

FROM server AS server-cpu
COPY --from=environment-cpu /opt/ganserve /opt/ganserve

# CUDA and cuDNN are among the Python packages; the driver is mounted by NVIDIA's container runtime. Without a GPU it does
# not start, rather than serve from the CPU.
FROM server AS server-gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility GANSERVE_DEVICE=cuda
COPY --from=environment-gpu /opt/ganserve /opt/ganserve

# Writes a model repository and ends: docker run --volume ./models:/models ...ganserve-export export faces --repository /models
FROM runtime AS export
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
HEALTHCHECK NONE
COPY --from=environment-export /opt/ganserve /opt/ganserve
ENTRYPOINT ["ganserve"]
CMD ["export", "--help"]
