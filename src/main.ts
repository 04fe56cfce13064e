import { readFile } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import closeWithGrace from 'close-with-grace';
import type { FastifyInstance } from 'fastify';
import { ConfigError, describeConfig, readConfig } from './config.ts';
import { EngineError } from './engine/protocol.ts';
import { stuckThreads } from './engine/thread.ts';
import type { GrpcServer } from './grpc/server.ts';
import { buildApp, buildInternalApp } from './http/app.ts';
import { openLog } from './log.ts';
import { ModelError, openModel } from './model/manifest.ts';
import { Service } from './service.ts';
import type { Tracing } from './tracing/trace.ts';
import { Updater } from './updater.ts';

const USAGE = `Usage: npm start            serve the model in MODEL_DIR
       npm start -- --help  this text

`;

/** Connections that may wait to be accepted: a burst of new clients must not be left to retry. */
const BACKLOG = 4096;

async function main(): Promise<void> {
  const { version } = JSON.parse(
    await readFile(new URL('../package.json', import.meta.url), 'utf8'),
  ) as { version: string };
  if (process.argv.includes('--help')) {
    process.stdout.write(`DepthServe ${version}\n\n${USAGE}${describeConfig()}\n`);
    return;
  }

  const config = readConfig();
  let service: Service | undefined;
  const log = openLog(config.LOG_LEVEL, () => service?.metrics.logLinesLost.inc());
  let app: FastifyInstance | undefined;
  let internal: FastifyInstance | undefined;
  let grpc: GrpcServer | undefined;
  let tracing: Tracing | null = null;
  let starting: Promise<void> | undefined;
  let updater: Updater | undefined;
  process.on('SIGHUP', () => updater?.reload());
  // Before anything slow, so that a signal during start-up ends it cleanly, too.
  const graceful = closeWithGrace(
    { delay: config.DRAIN_TIMEOUT_MS, logger: log, skip: ['SIGHUP'] },
    async (cause) => {
      if (cause.err) log.fatal({ err: cause.err }, 'unexpected error');
      log.info({ signal: cause.signal }, 'draining');
      service?.beginDrain();
      await waitingTaken();
      await Promise.all([app?.close(), grpc?.close()]);
      await starting;
      await updater?.stop();
      await service?.close();
      await internal?.close();
      await tracing?.close();
      log.info('drained');
      // Exit code 1, so that the supervisor replaces the process.
      if (service?.state === 'failed') throw new EngineError('the engine failed');
    },
  );

  process.once('exit', () => {
    if (stuckThreads() === 0) return;
    // Exiting waits for all threads, these included.
    log.fatal({ threads: stuckThreads() }, 'engine threads hang: killing the process');
    process.kill(process.pid, 'SIGKILL');
  });

  const model = await openModel(config.MODEL_DIR);
  service = new Service(config, model, log, () => graceful.close());
  updater = new Updater(service, config.MODEL_DIR, log);
  if (config.OTEL_EXPORTER_OTLP_ENDPOINT !== '') {
    tracing = (await import('./tracing/tracing.ts')).startTracing(version);
  }
  app = await buildApp(service, log, version, tracing);
  // Listening before the warm-up, so that probes can tell "starting" from "dead".
  await app.listen({ host: config.HOST, port: config.PORT, backlog: BACKLOG });
  if (config.INTERNAL_PORT !== 0) {
    internal = await buildInternalApp(service, log, app);
    await internal.listen({ host: config.HOST, port: config.INTERNAL_PORT });
  }
  if (config.GRPC_PORT !== 0) {
    const { GrpcServer } = await import('./grpc/server.ts');
    const parts = { service, log, version, tracing, ...app.shared };
    grpc = await GrpcServer.start(parts, config.HOST, config.GRPC_PORT);
  }
  starting = service.start();
  await starting;
  updater.watch(config.MODEL_POLL_SECONDS);
}

/**
 * Connections and requests that wait in the kernel are taken within three turns of the event loop:
 * accepted, read, handled. Closing would reset them.
 */
async function waitingTaken(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await nextTurn();
}

try {
  await main();
} catch (error) {
  const expected = [ConfigError, ModelError, EngineError].some((known) => error instanceof known);
  process.stderr.write(`depthserve: ${expected ? (error as Error).message : String(error)}\n`);
  if (!expected) process.stderr.write(`${(error as Error).stack}\n`);
  process.exitCode = 1;
  // Whatever still runs (the listener, a timer) must not keep a server alive that cannot serve.
  setTimeout(() => process.exit(), 100);
}
