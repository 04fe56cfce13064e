/** How each server is started and asked. Why its settings are as they are: docs/peers.md. */

import { imageCommand } from '../image-command.ts';

/** Bodies that bench/peers/load can send. */
export type Format = 'raw' | 'json' | 'v1-json' | 'v2-binary' | 'v2-json';

export interface Peer {
  readonly name: string;
  /**
   * Program and arguments, with a space between each.
   *
   * @param capacity requests under way that it takes at most, where it has such a bound.
   */
  command(port: number, capacity: number): string;
  readonly environment?: (port: number) => Readonly<Record<string, string>>;
  readonly ready: string;
  readonly classify: string;
  readonly format: Format;
}

/** Where a path of a virtual environment stands in a command or a variable. */
export const VENV = '$VENV';
const TRITON = `${VENV}/triton`;
const SERVERS = 'bench/peers/servers';
/** Of models that speak the open inference protocol. */
const V2 = { ready: '/v2/health/ready', classify: '/v2/models/classify/infer' } as const;

const IMAGE = imageCommand();

export const DEPTHSERVE: Peer = {
  name: 'depthserve',
  command: () => ['node', ...IMAGE.args].join(' '),
  environment: (port) => ({
    ...IMAGE.env,
    PORT: String(port),
    HOST: '127.0.0.1',
    LOG_LEVEL: 'warn',
  }),
  ready: '/health/ready',
  classify: '/classify',
  format: 'raw',
};

export const PEERS: readonly Peer[] = [
  {
    name: 'mosec',
    command: (port, capacity) =>
      `${VENV}/bin/python ${SERVERS}/mosec_server.py --address 127.0.0.1 --port ${port} ` +
      `--capacity ${capacity}`,
    ready: '/metrics',
    classify: '/classify',
    format: 'raw',
  },
  {
    name: 'fastapi',
    command: (port) =>
      `${VENV}/bin/uvicorn fastapi_server:app --app-dir ${SERVERS} --host 127.0.0.1 ` +
      `--port ${port} --no-access-log --log-level warning`,
    ready: '/ready',
    classify: '/classify',
    format: 'raw',
  },
  {
    name: 'triton',
    command: (port) =>
      `${TRITON}/bin/tritonserver --model-repository=${SERVERS}/triton ` +
      `--backend-directory=${TRITON}/backends --http-address=127.0.0.1 ` +
      `--http-port=${port} --http-thread-count=1 --allow-grpc=false ` +
      '--allow-metrics=false --log-info=false',
    environment: () => ({ LD_LIBRARY_PATH: `${TRITON}/lib` }),
    ...V2,
    format: 'v2-binary',
  },
  {
    name: 'litserve',
    command: (port) => `${VENV}/bin/python ${SERVERS}/litserve_server.py ${port}`,
    ready: '/health',
    classify: '/classify',
    format: 'json',
  },
  {
    name: 'bentoml',
    command: (port) =>
      `${VENV}/bin/bentoml serve bentoml_server:Classify --working-dir ${SERVERS} ` +
      `--host 127.0.0.1 --port ${port}`,
    environment: () => ({ BENTOML_DO_NOT_TRACK: 'True' }),
    ready: '/readyz',
    classify: '/classify',
    format: 'raw',
  },
  {
    name: 'ray-serve',
    command: (port) => `${VENV}/bin/python ${SERVERS}/ray_server.py ${port}`,
    ready: '/-/healthz',
    classify: '/classify',
    format: 'raw',
  },
  {
    name: 'mlserver',
    command: () => `${VENV}/bin/mlserver start ${SERVERS}/mlserver`,
    environment: (port) => ({
      MLSERVER_HOST: '127.0.0.1',
      MLSERVER_HTTP_PORT: String(port),
      MLSERVER_GRPC_PORT: String(port + 100),
      MLSERVER_METRICS_PORT: String(port + 200),
      MLSERVER_PARALLEL_WORKERS: '0',
      PYTHONPATH: SERVERS,
    }),
    ...V2,
    format: 'v2-json',
  },
  {
    name: 'kserve',
    command: (port) =>
      `${VENV}/bin/python ${SERVERS}/kserve_server.py --http_port ${port} ` +
      '--enable_grpc false --enable_latency_logging false',
    ready: '/v2/health/ready',
    classify: '/v1/models/classify:predict',
    format: 'v1-json',
  },
];
