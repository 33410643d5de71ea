# docker build --target train -t weakseg .                              CUDA (the wheels of requirements.lock bring it)
# docker build --target train --build-arg DEVICE=cpu -t weakseg:cpu .   no CUDA: several GB less
# docker run --rm -v "$PWD/data:/app/data" -v "$PWD/out:/app/out" -v "$PWD/reports:/app/reports" weakseg stage tiles
# With a GPU add `--gpus all`. The mounted folders must be writable for uid 10001, or add `--user "$(id -u)"`.
# docker build --target serve --build-arg DEVICE=cpu -t weakseg:serve .
# docker run --rm -p 8080:8080 -e MLFLOW_TRACKING_URI=http://SERVER:5000 weakseg:serve     the champion, at /invocations
ARG PYTHON=3.11

# ---- builder: has the compiler that pydensecrf needs below Python 3.13; nothing of it but /opt/venv is kept ------------
FROM python:${PYTHON}-slim-bookworm AS builder
ARG DEVICE=cuda
ARG UV=0.13.8
RUN apt-get update && apt-get install -y --no-install-recommends g++ libexpat1 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv==${UV}
ENV VIRTUAL_ENV=/opt/venv UV_LINK_MODE=copy UV_NO_CACHE=1
RUN uv venv --python "$(command -v python3)" /opt/venv
WORKDIR /app
COPY requirements.lock ./
# cpu: the locked packages but those of CUDA, then the CPU builds of torch in the locked versions (they have other hashes).
RUN set -eu; \
    case "$DEVICE" in \
      cuda) uv pip sync --compile-bytecode --require-hashes requirements.lock ;; \
      cpu) awk '/^[A-Za-z0-9]/ { keep = !/^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/ } keep' \
             requirements.lock > cpu.lock; \
           uv pip sync --compile-bytecode --require-hashes cpu.lock; \
           awk '/^(torch|torchvision)==/ { print $1 }' requirements.lock > torch.txt; \
           uv pip install --compile-bytecode --no-deps --torch-backend cpu -r torch.txt ;; \
      *) echo "DEVICE is $DEVICE; expected cpu or cuda" >&2; exit 1 ;; \
    esac
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN uv pip install --no-deps --no-build-isolation -e .
RUN /opt/venv/bin/python -c "import torch, rasterio, cv2; from weakseg.methods.crf import crf_library; print(crf_library())"

# ---- train: the pipeline and every command ---------------------------------------------------------------------------
FROM python:${PYTHON}-slim-bookworm AS train
# git: DVC and the provenance of runs ask it. libexpat1: rasterio's wheel expects the system's.
RUN apt-get update && apt-get install -y --no-install-recommends git libexpat1 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 weakseg
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 \
    MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true DVC_NO_ANALYTICS=1
COPY --from=builder /opt/venv /opt/venv
WORKDIR /app
COPY pyproject.toml README.md LICENSE MLproject python_env.yaml requirements.lock dvc.yaml params.yaml data.dvc .dvcignore ./
COPY .dvc/config .dvc/config
COPY configs configs
COPY src src
RUN mkdir -p data out reports .weakseg .dvc/tmp .dvc/cache \
    && chown -R weakseg:weakseg /app \
    && git config --system --add safe.directory /app
USER weakseg
VOLUME ["/app/data", "/app/out", "/app/reports"]
ENTRYPOINT ["python", "-m", "weakseg"]
CMD ["--help"]

# ---- serve: the champion of the registry over HTTP -------------------------------------------------------------------
FROM train AS serve
EXPOSE 8080
# /ping answers 200 only when the model is loaded, which takes its time.
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ping', timeout=5)"]
ENTRYPOINT ["mlflow", "models", "serve", "--host", "0.0.0.0", "--port", "8080", "--env-manager", "local", "--model-uri"]
CMD ["models:/weakseg@champion"]
