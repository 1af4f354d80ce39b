# Serves a policy: docs/serving.md. Never built where it was written, because no Docker daemon is there;
# `make test-dockerfile` runs its steps in a fresh virtual environment.
FROM python:3.11-slim
# Added to pip install, such as the index with torch for a CPU alone, which saves gigabytes.
ARG PIP_ARGS=""
RUN useradd --create-home rltrain
WORKDIR /app
COPY pyproject.toml setup.py README.md LICENSE constraints.txt ./
COPY rltrain rltrain
COPY envs envs
COPY agents agents
COPY configs configs
COPY src src
RUN pip install --no-cache-dir -c constraints.txt $PIP_ARGS ".[onnx,serve]"
USER rltrain
EXPOSE 8000
ENTRYPOINT ["rltrain", "serve"]
CMD ["/model/policy.onnx", "--host", "0.0.0.0", "--token-file", "/run/secrets/token"]
