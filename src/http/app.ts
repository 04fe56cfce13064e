import type { IncomingMessage } from 'node:http';
import { performance } from 'node:perf_hooks';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import fastify, { LogController } from 'fastify';
import type { FastifyBaseLogger, FastifyInstance, FastifyPluginAsync } from 'fastify';
import type { ErrorCode } from '../errors.ts';
import { readingSince } from '../event-loop-lag.ts';
import { OWN_SCHEMAS } from '../json.ts';
import type { Service } from '../service.ts';
import type { RequestTrace, Tracing } from '../tracing/trace.ts';
import { Access } from './access.ts';
import { rounded } from './answer.ts';
import { BytesInFlight, limitBodies } from './bodies.ts';
import { classifyRoute } from './classify.ts';
import { Cleanup } from './cleanup.ts';
import { requestIdOf, setCommonHeaders, stamp } from './common-headers.ts';
import { boundConnections, cleanUpAfter } from './connections.ts';
import { allowOrigins } from './cors.ts';
import { answerHalfOpen, countUnanswered } from './disconnect.ts';
import { meetExpectations } from './expectations.ts';
import { feedbackRoute } from './feedback.ts';
import { infoRoutes, metricsRoute } from './info.ts';
import { INTERFACE_PAGE } from './interface-page.ts';
import { answerNotFoundEarly, notFoundHandler } from './notfound.ts';
import { loadReports } from './orca.ts';
import { describeRoute, nameComponents } from './openapi.ts';
import { pageRoutes } from './page.ts';
import { answerClientError, answerError } from './problem.ts';
import { recordUnanswered } from './serving.ts';
import { alone, limitConnections } from './threads.ts';
import { endTrace, traceRequest } from './tracing.ts';
import { answerV2Error, v2Routes } from './v2/routes.ts';

declare module 'fastify' {
  interface FastifyInstance {
    /** What holds for other protocols, too. */
    shared: { readonly access: Access | null; readonly inFlight: BytesInFlight };
  }
  interface FastifyRequest {
    /** When the request's head had arrived, as `performance.now()`: the budget's clock. */
    arrivedAt: number;
    /** For the log and the metrics: met, late, or an error's code. */
    outcome: 'met' | 'late' | ErrorCode | null;
    /** Null: nobody collects spans. */
    trace: RequestTrace | null;
    atClose: Cleanup;
  }
  interface FastifyContextConfig {
    /** The route classifies images: its requests are counted and logged. */
    classifies?: boolean;
    /** Needs no token even where others do. */
    open?: boolean;
    /** Added to the route's schema in the OpenAPI document, and validated by the route itself. */
    documented?: Pick<FastifySchema, 'body' | 'headers'>;
  }
}

const REQUEST_IDS = {
  requestIdHeader: false,
  genReqId: ({ headers }: Pick<IncomingMessage, 'headers'>) => requestIdOf(headers['x-request-id']),
} as const;

const QUIET = { logController: new LogController({ disableRequestLogging: true }) };

/** What is for those who run the service: metrics and the interface's description. */
function internalRoutes(service: Service): FastifyPluginAsync {
  return async (app) => {
    await app.register(metricsRoute(service));
    app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
    await app.register(swaggerUi, INTERFACE_PAGE);
  };
}

/** The server of INTERNAL_PORT, which describes and measures `app`. */
export async function buildInternalApp(
  service: Service,
  log: FastifyBaseLogger,
  described: FastifyInstance,
): Promise<FastifyInstance> {
  await described.ready();
  const app = fastify({ loggerInstance: log, ...QUIET, ...REQUEST_IDS });
  boundConnections(app, service.config);
  setCommonHeaders(app, service);
  app.setErrorHandler(answerError);
  app.setNotFoundHandler(notFoundHandler(app));
  // OpenAPI 3.1, which the plugin serves, but whose types it does not know here.
  const document = described.swagger() as never;
  await app.register(swagger, { mode: 'static', specification: { document } });
  await app.register(internalRoutes(service));
  return app;
}

/**
 * The HTTP server, without listening yet.
 *
 * @param service on a front, as much of it as routes that classify need.
 */
export async function buildApp(
  service: Service,
  log: FastifyBaseLogger,
  version: string,
  tracing: Tracing | null = null,
  { bytes, connections, aside } = alone(),
): Promise<FastifyInstance> {
  const { config } = service;
  const app = fastify({
    loggerInstance: log,
    ...QUIET,
    bodyLimit: config.MAX_BODY_BYTES,
    ajv: { customOptions: OWN_SCHEMAS },
    // The two lines about a request name it themselves: a logger for each costs more than they do.
    childLoggerFactory: (logger) => logger,
    ...REQUEST_IDS,
    // The drain answers whatever comes by the connections that are open, and closes each then.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    requestTimeout: config.REQUEST_TIMEOUT_MS,
    http: {
      // Refused by us, with a reason.
      requireHostHeader: false,
      headersTimeout: Math.min(config.HEAD_TIMEOUT_MS, config.REQUEST_TIMEOUT_MS),
      requestTimeout: config.REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: Math.min(1000, config.HEAD_TIMEOUT_MS),
    },
    clientErrorHandler: answerClientError,
    // Of URLs that no route's handler gets to see, nor a hook.
    frameworkErrors: (error, request, reply) => {
      stamp(request, reply, service);
      const answer = request.url.startsWith('/v2') ? answerV2Error : answerError;
      void answer(error, request, reply);
    },
  }).withTypeProvider<TypeBoxTypeProvider>();

  // The bytes of a head are limited; Node would leave out headers beyond the thousandth.
  app.server.maxHeadersCount = 0;
  limitConnections(app.server, config.MAX_CONNECTIONS, connections);
  boundConnections(app, config);
  answerHalfOpen(app);
  app.decorateRequest('uploadDue', null);
  const inFlight = new BytesInFlight(config.MAX_BYTES_IN_FLIGHT, bytes);
  limitBodies(app, inFlight, config.MAX_BODY_BYTES);

  app.decorateRequest('arrivedAt', 0);
  app.decorateRequest('outcome', null);
  app.decorateRequest('deployment', null);
  app.decorateRequest('trace', null);
  app.addHook('onRequest', (request, reply, done) => {
    request.arrivedAt = readingSince();
    const atClose = new Cleanup();
    request.atClose = atClose;
    cleanUpAfter(reply.raw, request.raw.socket, atClose);
    const { classifies } = request.routeOptions.config;
    if (classifies) atClose.push(() => countUnanswered(service, request, reply));
    if (classifies && (tracing || request.headers.traceparent !== undefined)) {
      traceRequest(tracing, request);
    }
    done();
  });
  if (aside) {
    app.addHook('onRoute', (route) => {
      if (!route.config?.classifies) route.handler = aside.handler;
    });
  }
  await allowOrigins(app, config.CORS_ORIGINS);
  const access = config.TOKENS_FILE ? new Access(config.TOKENS_FILE, log) : null;
  app.decorate('shared', { access, inFlight });
  if (access) {
    app.addHook('onClose', () => access.close());
    app.addHook('onRequest', async (request) => {
      if (request.routeOptions.config.open) return;
      request.atClose.push(access.enter(request.headers.authorization));
    });
  }
  app.addHook('onRequest', aside?.reportLoad ?? loadReports(service, access === null));
  setCommonHeaders(app, service);
  app.addHook('onResponse', (request, reply, done) => {
    const { outcome } = request;
    if (request.routeOptions.config.classifies) {
      const ms = rounded(performance.now() - request.arrivedAt);
      if (outcome !== null && outcome !== 'met' && outcome !== 'late') {
        recordUnanswered(service, request, outcome);
      }
      const subNetwork = reply.getHeader('x-sub-network');
      const status = reply.statusCode;
      request.log.info({ reqId: request.id, status, outcome, subNetwork, ms }, 'classify');
      endTrace(request, reply.statusCode, subNetwork);
    }
    done();
  });
  meetExpectations(app);
  answerNotFoundEarly(app);
  app.setErrorHandler(answerError);
  app.setNotFoundHandler(notFoundHandler(app));

  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'DepthServe',
        description: 'Image classification within the time that the caller has.',
        version,
        license: { name: 'Apache-2.0' },
      },
      servers: [
        { url: '/', description: 'Where this document comes from' },
        { url: 'http://localhost:8080', description: 'A server on this machine' },
      ],
    },
    transform: describeRoute,
    transformObject: nameComponents,
  });
  await app.register(classifyRoute(service));
  await app.register(feedbackRoute(service));
  await app.register(infoRoutes(service));
  if (config.INTERNAL_PORT === 0) await app.register(internalRoutes(service));
  await app.register(pageRoutes(service));
  await app.register(v2Routes(service, version), { prefix: '/v2' });
  return app;
}
