import type { FastifySwaggerUiOptions } from '@fastify/swagger-ui';
import { pagePolicy } from './common-headers.ts';

/** `GET /docs`: the interface's description, by Swagger UI. */
export const INTERFACE_PAGE: FastifySwaggerUiOptions = {
  routePrefix: '/docs',
  // The plugin's own policy has browsers ask for scripts by https, which is not spoken here, and lets
  // styles and pictures come from elsewhere.
  staticCSP: pagePolicy('data:'),
  // Without the bar on top: its logo has an inline style, which the policy does not allow, and
  // its field asks for descriptions elsewhere.
  uiConfig: { layout: 'BaseLayout' },
};
