# Three images. BuildKit builds only the stages that the chosen one needs.
#
#   docker build --tag tcn-export .                         # cpu: trains, exports, verifies
#   docker build --tag tcn-export:gpu --target gpu .        # ONNX Runtime for CUDA 13
#   docker build --tag tcn-export:jetson --target jetson .  # on a Jetson: verifies, no PyTorch
#
# Build arguments: PYTHON_IMAGE, JETSON_IMAGE, TORCH_INDEX, TENSORRT, TENSORRT_INDEX.
# `tools/check_dockerfile.py` runs the steps of a stage without docker.

ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
# JetPack 6.1 and 6.2: TensorRT 10.3, Python 3.10. It must match the JetPack of the board.
ARG JETSON_IMAGE=nvcr.io/nvidia/l4t-jetpack:r36.4.0


# ---- What a Jetson needs, built on the board's own Python ----
FROM ${JETSON_IMAGE} AS jetson-build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
# TensorRT's Python module is a system package of JetPack: the environment has to see those.
RUN python3 -m venv --system-site-packages /opt/tcn-export
COPY pyproject.toml README.md /src/
COPY tools/constraints.txt /src/tools/
COPY src /src/src
RUN /opt/tcn-export/bin/pip install --constraint /src/tools/constraints.txt /src

FROM ${JETSON_IMAGE} AS jetson
LABEL org.opencontainers.image.title="tcn-export (jetson)" \
      org.opencontainers.image.description="Verifies exported TCNs on a Jetson" \
      org.opencontainers.image.version="0.1.0"
ENV PATH=/opt/tcn-export/bin:$PATH HOME=/home/tcn USER=tcn \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Not unique: images of Ubuntu 24.04 have a user 1000 already.
RUN useradd --non-unique --uid 1000 --no-create-home --home-dir /home/tcn tcn \
    && install --directory --mode 1777 /data /home/tcn
COPY --from=jetson-build /opt/tcn-export /opt/tcn-export
WORKDIR /data
USER 1000:1000
# An export needs PyTorch, which is not here; `--entrypoint python3 ... build_engine.py` is.
ENTRYPOINT ["tcn-verify"]


# ---- What cpu and gpu share ----
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /opt/tcn-export
COPY tools/constraints.txt tools/constraints-gpu.txt /src/tools/
# The public index's torch brings gigabytes of CUDA libraries, which an export never uses. To
# train on a GPU take that one: --target gpu --build-arg TORCH_INDEX=
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# A layer of its own, the largest: it survives a change of the sources.
RUN /opt/tcn-export/bin/pip install --constraint /src/tools/constraints.txt \
    --constraint /src/tools/constraints-gpu.txt \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md /src/
COPY src /src/src

FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="tcn-export" \
      org.opencontainers.image.description="Exports causal TCNs from PyTorch and proves parity" \
      org.opencontainers.image.version="0.1.0"
# USER and a home that anybody may write to: `docker run --user` with a number that has no name.
ENV PATH=/opt/tcn-export/bin:$PATH HOME=/home/tcn USER=tcn \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --non-unique --uid 1000 --no-create-home --home-dir /home/tcn tcn \
    && install --directory --mode 1777 /data /home/tcn
WORKDIR /data


# ---- gpu ----
FROM build AS gpu-build
# The CUDA libraries come as wheels, so that the base needs none; the driver comes from the host.
RUN /opt/tcn-export/bin/pip install --constraint /src/tools/constraints.txt \
    --constraint /src/tools/constraints-gpu.txt \
    '/src[export,gpu,train]' 'onnxruntime-gpu[cuda,cudnn]'
# TensorRT is not on the public index. Version 10 serves ONNX Runtime's provider too:
#   --build-arg TENSORRT='tensorrt-cu13==10.*'
ARG TENSORRT=
ARG TENSORRT_INDEX=https://pypi.nvidia.com
RUN if [ -n "$TENSORRT" ]; then \
        /opt/tcn-export/bin/pip install --constraint /src/tools/constraints.txt \
            --constraint /src/tools/constraints-gpu.txt \
            --extra-index-url "$TENSORRT_INDEX" "$TENSORRT"; \
    fi

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-build /opt/tcn-export /opt/tcn-export
# The loader finds the libraries of the wheels, whoever asks first.
RUN find /opt/tcn-export/lib -name '*.so.*' -printf '%h\n' \
        | grep -E '/nvidia/|/tensorrt_libs' | sort -u >/etc/ld.so.conf.d/cuda-wheels.conf \
    && ldconfig
USER 1000:1000
ENTRYPOINT ["tcn-export"]


# ---- cpu: the default, because it is the last ----
FROM build AS cpu-build
RUN /opt/tcn-export/bin/pip install --constraint /src/tools/constraints.txt \
    '/src[export,cpu,train]'

FROM runtime AS cpu
COPY --from=cpu-build /opt/tcn-export /opt/tcn-export
USER 1000:1000
ENTRYPOINT ["tcn-export"]
