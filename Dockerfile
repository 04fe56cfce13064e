# syntax=docker/dockerfile:1
# docker build --target cpu -t depthserve:cpu .
# docker build --target cuda -t depthserve:cuda .

# --- the server, compiled ---------------------------------------------------------------------
FROM docker.io/library/node:20.20.0-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN --mount=type=cache,target=/root/.npm npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build

# --- what it needs to run, nothing to build with -----------------------------------------------
FROM docker.io/library/node:20.20.0-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY docker/prune.sh docker/prune.sh
RUN --mount=type=cache,target=/root/.npm npm ci --omit=dev && sh docker/prune.sh

# The same with onnxruntime's CUDA provider, which its install script fetches; the one package
# that may run its script, and only here.
FROM dependencies AS dependencies-cuda
RUN ONNXRUNTIME_NODE_INSTALL=true npm rebuild --ignore-scripts=false onnxruntime-node \
    && sh docker/prune.sh

# --- cpu ---------------------------------------------------------------------------------------
# Node and glibc without shell or package manager.
FROM gcr.io/distroless/nodejs20-debian12:nonroot AS cpu
