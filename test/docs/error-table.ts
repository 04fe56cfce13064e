import { ERRORS } from '../../src/errors.ts';
import { cell } from './table.ts';

/** Every error of HTTP, by status: what docs/api.md lists. */
export function errorTable(): string {
  const rows = Object.entries(ERRORS)
    .toSorted(([, [a]], [, [b]]) => a - b)
    .map(([code, [status, title, advice]]) => {
      return `| \`${code}\` | ${status} | ${cell(title)} | ${cell(advice)} |`;
    });
  return ['| code | status | title | what to do |', '|---|---|---|---|', ...rows].join('\n');
}
