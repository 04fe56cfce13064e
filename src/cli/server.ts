import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import type { Progress } from '../engine/measure.ts';
import { countFronts } from '../fronts/count.ts';
import { Fronts, seenFromMain, sharedCounts } from '../fronts/fronts.ts';
import type { FrontsOptions } from '../fronts/fronts.ts';
import type { GrpcServer } from '../grpc/server.ts';
import { waitingTaken } from '../http/listening.ts';
import type { Model } from '../model/manifest.ts';
import { Service } from '../service.ts';
import type { Tracing } from '../tracing/trace.ts';
import { Updater } from '../updater.ts';
import { freePort, listen } from './ports.ts';

export interface ServerOptions {
  readonly config: Config;
  readonly model: Model;
  /** Of the package. */
  readonly version: string;
  readonly log: Logger;
  /** How the fronts write the log, too. */
  readonly text: FrontsOptions['text'];
  /** Called once when the service can no longer work. */
  readonly onFailed: () => void;
  /** Told while the model is measured. */
  readonly onProgress: Progress;
}

/** The service and all that asks it over the network: what is started, and ended, in which order. */
export class Server {
  readonly service: Service;
  readonly #updater: Updater;
  /** All but the warm-up. */
  #opening: Promise<number> | undefined;
  #starting: Promise<void> | undefined;
  #tracing: Tracing | null = null;
  #app: FastifyInstance | undefined;
  #fronts: Fronts | undefined;
  #internal: FastifyInstance | undefined;
  #grpc: GrpcServer | undefined;

  constructor(private readonly options: ServerOptions) {
    const { config, model, log, onFailed, onProgress } = options;
    this.service = new Service(config, model, log, onFailed, onProgress);
    this.#updater = new Updater(this.service, config.MODEL_DIR, log);
  }

  /**
   * Listens, and is ready when the model is warm.
   *
   * @returns the port.
   */
  async start(): Promise<number> {
    this.#opening = this.#open();
    const port = await this.#opening;
    await this.#starting;
    this.#updater.watch(this.options.config.MODEL_POLL_SECONDS);
    return port;
  }

  async #open(): Promise<number> {
    const { config, version, log } = this.options;
    const { service } = this;
    if (config.OTEL_EXPORTER_OTLP_ENDPOINT !== '') {
      const { startTracing } = await import('../tracing/tracing.ts');
      this.#tracing = startTracing(version, config.OTEL_EXPORTER_OTLP_ENDPOINT);
    }
    const { threads, reason } = countFronts(config);
    if (reason !== null) log.info({ wanted: config.FRONTS, reason }, 'one front');
    const http = import('../http/app.ts');
    // Its threads load while HTTP does; fronts that load would disturb what it measures.
    if (threads === 0) this.#warmUp(http);
    const { buildApp, buildInternalApp } = await http;
    const counts = sharedCounts(threads);
    const app = await buildApp(service, log, version, this.#tracing, seenFromMain(counts));
    this.#app = app;
    // Listening before it is warm, so that probes can tell "starting" from "dead".
    let port: number;
    if (threads === 0) port = await listen(app, config.HOST, config.PORT, 'port');
    else {
      port = await freePort(config.HOST, config.PORT, 'port');
      const options = { config, version, port, text: this.options.text, ...counts };
      this.#fronts = await Fronts.start(options, { service, app, log }, threads);
      this.#warmUp();
    }
    if (config.INTERNAL_PORT !== 0) {
      this.#internal = await buildInternalApp(service, log, app);
      await listen(this.#internal, config.HOST, config.INTERNAL_PORT, 'internal-port');
    }
    if (config.GRPC_PORT !== 0) {
      const { GrpcServer } = await import('../grpc/server.ts');
      const parts = { service, log, version, tracing: this.#tracing, ...app.shared };
      // Its library would say less of a port that it cannot have.
      const grpcPort = await freePort(config.HOST, config.GRPC_PORT, 'grpc-port');
      this.#grpc = await GrpcServer.start(parts, config.HOST, grpcPort);
    }
    return port;
  }

  /** Looks at once whether there is another version of the model. */
  reload(): void {
    this.#updater.reload();
  }

  /** Finishes what was accepted. No new work from here on. */
  async close(): Promise<void> {
    this.service.beginDrain();
    // What opens later would not be closed.
    await this.#opening?.catch(() => {});
    await waitingTaken();
    await Promise.all([this.#closeHttp(), this.#grpc?.close()]);
    await this.#starting;
    await this.#updater.stop();
    await this.service.close();
    await this.#internal?.close();
    await this.#tracing?.close();
  }

  async #closeHttp(): Promise<void> {
    await this.#fronts?.close();
    // The fronts have asked it until now.
    await this.#app?.close();
  }

  /** After a start that failed: to exit while a thread loads its session aborts the process. */
  async giveUp(): Promise<void> {
    this.service.beginDrain();
    await this.#starting?.catch(() => {});
    await this.service.close();
  }

  /** What fails is told to who waits for it, later. */
  #warmUp(quiet?: Promise<unknown>): void {
    this.#starting = this.service.start(quiet);
    this.#starting.catch(() => {});
  }
}
