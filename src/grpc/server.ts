import { fileURLToPath } from 'node:url';
import { Server, ServerCredentials, loadPackageDefinition } from '@grpc/grpc-js';
import type { GrpcObject, ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ConfigError } from '../config.ts';
import { Heads } from './heads.ts';
import type { GrpcParts } from './heads.ts';
import { handlers } from './handlers.ts';

const PROTO = fileURLToPath(new URL('../../src/grpc/inference.proto', import.meta.url));

/** Calls that one connection may have under way. */
const MOST_STREAMS = 1000;

/** What a message has beside its tensor. */
const MESSAGE_ROOM = 64 * 1024;

/** The Open Inference Protocol over gRPC, without TLS: over the same service as REST. */
export class GrpcServer {
  private constructor(
    private readonly server: Server,
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
      'grpc.max_concurrent_streams': MOST_STREAMS,
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
    const name = 'GRPCInferenceService';
    const { service } = (inference as GrpcObject)[name] as ServiceClientConstructor;
    server.addService(service, handlers(parts, heads));
    const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    const bound = await new Promise<number>((resolve, reject) => {
      server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
        if (error) reject(new ConfigError(`GRPC_PORT: ${error.message}`, { cause: error }));
        else resolve(port);
      });
    });
    parts.log.info({ port: bound }, 'gRPC server listening');
    return new GrpcServer(server, bound);
  }

  /** Accepts no more calls, and waits for those under way. */
  close(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.server.tryShutdown((error) => (error ? reject(error) : resolve()));
    });
  }
}
