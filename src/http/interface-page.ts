import type { FastifySwaggerUiOptions } from '@fastify/swagger-ui';

/**
 * The plugin's own policy has browsers ask for scripts by https, which is not spoken here, and lets
 * styles and pictures come from elsewhere.
 */
const POLICY = [
  "default-src 'none'",
  ...['script-src', 'style-src', 'connect-src'].map((kind) => `${kind} 'self'`),
  "img-src 'self' data:",
  ...['base-uri', 'form-action', 'frame-ancestors'].map((kind) => `${kind} 'none'`),
].join('; ');

/** `GET /docs`: the interface's description, by Swagger UI. */
export const INTERFACE_PAGE: FastifySwaggerUiOptions = {
  routePrefix: '/docs',
  staticCSP: POLICY,
  // Without the bar on top: its logo has an inline style, which the policy does not allow, and
  // its field asks for descriptions elsewhere.
  uiConfig: { layout: 'BaseLayout' },
};
