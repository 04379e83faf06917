# portnn on an NVIDIA GPU: docker build -t portnn . && docker run --gpus all portnn
# CuPy's wheels bring CUDA along; the host needs a driver (580 or newer) and NVIDIA's container toolkit.
FROM python:3.13-slim

WORKDIR /portnn
COPY . .
RUN pip install --no-cache-dir ".[cuda13-ctk,fast,sklearn,data]" && useradd --create-home portnn
USER portnn
CMD ["python", "scripts/train_mnist.py", "--device", "gpu"]
