import { fileURLToPath } from 'node:url';
import { Server, ServerCredentials, loadPackageDefinition } from '@grpc/grpc-js';
import type { GrpcObject, ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ConfigError } from '../config.ts';
import { drainPatience, listenOptions } from '../http/listening.ts';
import { Heads } from './heads.ts';
import type { GrpcParts } from './heads.ts';
import { handlers } from './handlers.ts';

const PROTO = fileURLToPath(new URL('../../src/grpc/inference.proto', import.meta.url));

/** Calls that one connection may have under way. */
const MAX_STREAMS = 1000;

/** Peers that have vanished without a word do not answer a ping. */
const PING_EVERY_MS = 60_000;
const PING_TIMEOUT_MS = 20_000;

/**
 * Clients connect anew then, perhaps to another replica: balancers spread connections, not calls.
 * What is under way has the grace: nothing else closes the connection of a client that answers pings
 * and takes no answer.
 */
const LONGEST_CONNECTION_MS = 30 * 60_000;
const GRACE_MS = 5 * 60_000;

/** What a message has beside its tensor. */
const MESSAGE_ROOM = 64 * 1024;

/** The Open Inference Protocol over gRPC, without TLS: over the same service as REST. */
export class GrpcServer {
  private constructor(
    private readonly server: Server,
    private readonly heads: Heads,
    private readonly patience: number,
    readonly port: number,
  ) {}

  /**
   * @param port 0: a free one.
   * @throws {ConfigError} when the port cannot be had.
   */
  static async start(parts: GrpcParts, host: string, port: number): Promise<GrpcServer> {
    const { config } = parts.service;
    const heads = new Heads(parts);
    const server = new Server({
      'grpc.max_receive_message_length': config.MAX_BODY_BYTES + MESSAGE_ROOM,
      'grpc.max_concurrent_streams': MAX_STREAMS,
      'grpc.keepalive_time_ms': PING_EVERY_MS,
      'grpc.keepalive_timeout_ms': PING_TIMEOUT_MS,
      'grpc.max_connection_age_ms': LONGEST_CONNECTION_MS,
      'grpc.max_connection_age_grace_ms': GRACE_MS,
      interceptors: [heads.interceptor],
    });
    const definition = loadSync(PROTO, {
      keepCase: true,
      longs: Number,
      enums: String,
      defaults: true,
      oneofs: true,
    });
    const { inference } = loadPackageDefinition(definition);
    const { GRPCInferenceService } = inference as GrpcObject;
    const { service } = GRPCInferenceService as ServiceClientConstructor;
    server.addService(service, handlers(parts, heads));
    const { host: name } = listenOptions(host, port);
    const address = name.includes(':') ? `[${name}]:${port}` : `${name}:${port}`;
    const bound = await new Promise<number>((resolve, reject) => {
      server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
        if (error) reject(new ConfigError(`GRPC_PORT: ${error.message}`, { cause: error }));
        else resolve(port);
      });
    });
    parts.log.info({ port: bound }, 'gRPC server listening');
    return new GrpcServer(server, heads, drainPatience(config), bound);
  }

  /** Accepts no more calls, and waits for those under way: for their messages not to the end. */
  async close(): Promise<void> {
    const { server, heads } = this;
    const closed = new Promise<void>((resolve, reject) => {
      server.tryShutdown((error) => (error ? reject(error) : resolve()));
    });
    // A client may keep its side of a call open for ever.
    const giveUp = () => void heads.giveUpWaiting().then(() => server.forceShutdown());
    const timer = setTimeout(giveUp, this.patience);
    await closed.finally(() => clearTimeout(timer));
  }
}
