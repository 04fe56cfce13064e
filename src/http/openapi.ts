import type { SwaggerTransform, SwaggerTransformObject } from '@fastify/swagger';

/** Names of operations, which generated clients call their functions by. */
const OPERATIONS: Readonly<Record<string, string>> = {
  'POST /classify': 'classify',
  'POST /feedback': 'giveFeedback',
  'GET /model': 'getModel',
  'GET /health/live': 'isLive',
  'GET /health/ready': 'isReady',
  'GET /metrics': 'getMetrics',
  'GET /live': 'getLive',
};

/** `GET /v2/models/:model/versions/:version/ready` is called `v2GetModelVersionReady`. */
function operationIdOf(method: string, url: string): string {
  const known = OPERATIONS[`${method} ${url}`];
  if (known !== undefined) return known;
  const words = url
    .replace(/^\/v2/, '')
    .replace('/versions/:version', '/version')
    .replace('/models/:model', '/model')
    .split(/[^a-z]+/i)
    .filter((word) => word !== '');
  const name = [method.toLowerCase(), ...words].map(
    (word) => word[0]!.toUpperCase() + word.slice(1),
  );
  return `v2${name.join('')}`;
}

type Json = Record<string, unknown>;

/** Adds what a route's schema does not say to its part of the document. */
export const describeRoute: SwaggerTransform = ({ schema, url, route }) => {
  const method = [route.method].flat()[0]!;
  const operationId = operationIdOf(method, url);
  return { schema: { operationId, ...schema, ...route.config?.documented }, url };
};

/** Schemas with a title become components, said once and referred to by name. */
export const nameComponents: SwaggerTransformObject = (document) => {
  if (!('openapiObject' in document)) return document.swaggerObject;
  const { openapiObject } = document;
  const components: Record<string, Json> = {};
  const named = (node: unknown): unknown => {
    if (Array.isArray(node)) return node.map(named);
    if (typeof node !== 'object' || node === null) return node;
    const copy: Json = Object.fromEntries(
      Object.entries(node).map(([key, value]) => [key, named(value)]),
    );
    const { title, type } = copy;
    if (typeof title !== 'string' || typeof type !== 'string') return copy;
    components[title] = copy;
    return { $ref: `#/components/schemas/${title}` };
  };
  const paths = named(openapiObject.paths) as typeof openapiObject.paths;
  const schemas = { ...openapiObject.components?.schemas, ...components };
  return { ...openapiObject, paths, components: { ...openapiObject.components, schemas } } as never;
};
