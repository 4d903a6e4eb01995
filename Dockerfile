# An image that trains, exports and verifies on the CPU:
#   docker build -t tcn-export . && docker run --rm -v "$PWD:/data" tcn-export model.pt --target onnx
FROM python:3.11-slim
COPY pyproject.toml README.md /src/
COPY tools/constraints.txt /src/tools/
COPY src /src/src
RUN pip install --no-cache-dir --constraint /src/tools/constraints.txt '/src[all]'
WORKDIR /data
ENTRYPOINT ["tcn-export"]
