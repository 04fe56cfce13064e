// First: what is loaded later is compiled as it says.
import '../v8-tuning.ts';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import closeWithGrace from 'close-with-grace';
import type { FastifyInstance } from 'fastify';
import { readConfig } from '../config.ts';
import type { Config } from '../config.ts';
import { EngineError } from '../engine/protocol.ts';
import { stuckThreads } from '../engine/thread.ts';
import { countFronts } from '../fronts/count.ts';
import { Fronts, seenFromMain, sharedCounts } from '../fronts/fronts.ts';
import type { GrpcServer } from '../grpc/server.ts';
import { BACKLOG, waitingTaken } from '../http/listening.ts';
import { openLog } from '../log.ts';
import { openModel } from '../model/manifest.ts';
import { Service } from '../service.ts';
import type { Tracing } from '../tracing/trace.ts';
import { Updater } from '../updater.ts';
import { CliError, packageVersion, progress } from './command.ts';

/** Ends what `begin` began: to exit while a thread loads its session aborts the process. */
let giveUp = async (): Promise<void> => {};

/**
 * `depthserve serve`: start and shutdown of the server. Returns when it is ready; a signal ends it.
 *
 * @param env the settings.
 */
export async function serve(env: NodeJS.ProcessEnv): Promise<void> {
  try {
    await start(readConfig(env));
  } catch (error) {
    // Whatever still runs (the listener, a timer) must not keep a server alive that cannot serve.
    void giveUp().then(() => setTimeout(() => process.exit(), 100));
    throw error;
  }
}

async function start(config: Config): Promise<void> {
  const version = await packageVersion();
  const isText =
    config.LOG_FORMAT === 'text' || (config.LOG_FORMAT === 'auto' && process.stdout.isTTY);
  const text = isText ? { colours: process.stdout.hasColors?.() ?? false } : null;
  const tell = (text: string) => {
    if (isText) process.stdout.write(`${text}\n`);
  };
  let service: Service | undefined;
  const log = openLog(
    config.LOG_LEVEL,
    (lines) => service?.metrics.logLinesLost.inc(lines),
    text ? (await import('../terminal-log.ts')).terminalFormat(text.colours) : undefined,
  );
  let app: FastifyInstance | undefined;
  let fronts: Fronts | undefined;
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
      await Promise.all([fronts?.close(), grpc?.close()]);
      // The fronts have asked it until now.
      await app?.close();
      await starting;
      await updater?.stop();
      await service?.close();
      await internal?.close();
      await tracing?.close();
      log.info('drained');
      // Exit code 1, so that whoever supervises the process knows to replace it.
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
  const { name, version: modelVersion } = model.manifest;
  tell(`DepthServe ${version}: loading ${name} ${modelVersion}`);
  service = new Service(
    config,
    model,
    log,
    () => graceful.close(),
    (done, of) =>
      progress(done < of ? `measuring ${done} of ${of} sub-networks …` : 'measuring batches …'),
  );
  updater = new Updater(service, config.MODEL_DIR, log);
  if (config.OTEL_EXPORTER_OTLP_ENDPOINT !== '') {
    tracing = (await import('../tracing/tracing.ts')).startTracing(
      version,
      config.OTEL_EXPORTER_OTLP_ENDPOINT,
    );
  }
  const { threads, reason } = countFronts(config);
  if (reason !== null) log.info({ wanted: config.FRONTS, reason }, 'one front');
  const http = import('../http/app.ts');
  // Its threads load while HTTP does; fronts that load would disturb what it measures.
  if (threads === 0) starting = begin(service, http);
  const { buildApp, buildInternalApp } = await http;
  const counts = sharedCounts(threads);
  const built = await buildApp(service, log, version, tracing, seenFromMain(counts));
  app = built;
  // Listening before it is warm, so that probes can tell "starting" from "dead".
  const { HOST: host } = config;
  let port: number;
  if (threads === 0) port = await listen(app, host, config.PORT, 'port');
  else {
    port = await freePort(host, config.PORT);
    const parts = { service, app, log };
    fronts = await Fronts.start({ config, version, port, text, ...counts }, parts, threads);
    starting = begin(service);
  }
  if (config.INTERNAL_PORT !== 0) {
    internal = await buildInternalApp(service, log, app);
    await listen(internal, host, config.INTERNAL_PORT, 'internal-port');
  }
  if (config.GRPC_PORT !== 0) {
    const { GrpcServer } = await import('../grpc/server.ts');
    const parts = { service, log, version, tracing, ...built.shared };
    grpc = await GrpcServer.start(parts, host, config.GRPC_PORT);
  }
  await starting;
  progress('');
  if (service.state === 'ready') tell(readyLine(service, port));
  updater.watch(config.MODEL_POLL_SECONDS);
}

/** What fails is told to who waits for it, later. */
function begin(service: Service, quiet?: Promise<unknown>): Promise<void> {
  const starting = service.start(quiet);
  const settled = starting.catch(() => {});
  giveUp = async () => {
    service.beginDrain();
    await settled;
  };
  return starting;
}

/** @returns the port. */
async function listen(
  app: FastifyInstance,
  host: string,
  port: number,
  flag: string,
): Promise<number> {
  await explained(host, port, flag, app.listen({ host, port, backlog: BACKLOG }));
  return (app.server.address() as AddressInfo).port;
}

/**
 * A port that nobody listens on. Threads that share it could not tell: they would share it with
 * another server of the same user, too.
 *
 * @param port 0: any.
 */
async function freePort(host: string, port: number): Promise<number> {
  const server = createServer().listen({ host, port });
  await explained(host, port, 'port', once(server, 'listening'));
  const { port: free } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return free;
}

/** @throws {CliError} where a port cannot be had. */
async function explained(
  host: string,
  port: number,
  flag: string,
  listening: Promise<unknown>,
): Promise<void> {
  try {
    await listening;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const unknown = `no machine is called ${host}: choose another with --host`;
    const hint = {
      EADDRINUSE: `port ${port} is in use: stop what listens there, or choose another with --${flag}`,
      EACCES: `port ${port} is not allowed: choose one above 1023 with --${flag}`,
      ENOTFOUND: unknown,
      EAI_AGAIN: unknown,
      EADDRNOTAVAIL: `this machine has no address ${host}: choose another with --host`,
    }[code ?? ''];
    throw hint === undefined ? error : new CliError(hint, { cause: error });
  }
}

/** Where it listens, and what the budgets of this machine are about. */
function readyLine(service: Service, port: number): string {
  const { manifest, provider, tiers, latency } = service.status().deployment;
  const { HOST } = service.config;
  const host = ['0.0.0.0', '::', ''].includes(HOST) ? 'localhost' : HOST;
  const timeOf = ({ skip }: { skip: string }) => `${skip} ${latency[skip]![1]!.toFixed(1)} ms`;
  const where = provider === 'cuda' ? 'CUDA' : 'CPU';
  const depths = `quickest ${timeOf(tiers[0]!)}, slowest ${timeOf(tiers.at(-1)!)}`;
  return `ready: http://${host}:${port} (${manifest.name} ${manifest.version}, ${where}, ${depths})`;
}
