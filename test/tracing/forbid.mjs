/** Loaded before the server (`--import`): packages that are for some only must not be loaded. */
import { register } from 'node:module';

const hooks = `export async function resolve(name, context, next) {
  if (/^@(grpc|opentelemetry)\\//.test(name)) throw new Error(name + ' was loaded');
  return next(name, context);
}`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
