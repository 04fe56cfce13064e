# syntax=docker/dockerfile:1
#   docker build --target cpu  -t depthserve:0.1.0-cpu .
#   docker build --target cuda -t depthserve:0.1.0-cuda .
# Node 24 is the present long-term release. The owner of the registry pins the bases by digest:
# `docker buildx imagetools inspect <image>` names it.
# docs/operations.md states the size of every layer, and which of these steps have been executed.

# --- compiled server --------------------------------------------------------------------------
FROM docker.io/library/node:24.21.0-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build

# --- what it needs to run ---------------------------------------------------------------------
FROM docker.io/library/node:24.21.0-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY docker/prune.sh docker/
RUN npm ci --omit=dev && sh docker/prune.sh

# onnxruntime's CUDA provider, which its own script fetches. Nothing else may run a script.
FROM dependencies AS dependencies-cuda
RUN npm run cuda:install && sh docker/prune.sh

# --- cpu --------------------------------------------------------------------------------------
FROM docker.io/library/debian:12.11-slim AS cpu
COPY --from=build /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY docker/health.js docker/
COPY models models
COPY src/page src/page
COPY src/grpc/inference.proto src/grpc/
COPY package.json ./
COPY --from=build /app/dist dist
ENV NODE_ENV=production EXECUTION_PROVIDER=cpu ORT_DISABLE_TELEMETRY=1 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=4
EXPOSE 8080
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["node", "docker/health.js"]
# Node as the first process: SIGTERM reaches it and starts the drain. Its flags, and the allocator's
# above: docs/cost-of-a-request.md, "Large pages" and docs/reliability.md, "What
# happens when the model changes?".
ENTRYPOINT ["node", "--use-largepages=silent", "--no-memory-reducer", "--max-inlined-bytecode-size=100", "dist/main.js"]

# --- cuda -------------------------------------------------------------------------------------
FROM docker.io/nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04 AS cuda
COPY --from=build /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
COPY --from=dependencies-cuda /app/node_modules node_modules
COPY docker/health.js docker/
COPY models models
COPY src/page src/page
COPY src/grpc/inference.proto src/grpc/
COPY package.json ./
COPY --from=build /app/dist dist
# `utility` brings nvidia-smi, which feeds the GPU metrics.
ENV NODE_ENV=production EXECUTION_PROVIDER=cuda ORT_DISABLE_TELEMETRY=1 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=4 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 8080
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s CMD ["node", "docker/health.js"]
ENTRYPOINT ["node", "--use-largepages=silent", "--no-memory-reducer", "--max-inlined-bytecode-size=100", "dist/main.js"]
