import { relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Config, Setting } from '../../src/config.ts';
import { cell } from './table.ts';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));

const HEAD = `# Settings

Every setting is an environment variable and a flag of \`depthserve serve\`; where both are given, the
flag counts. A value out of its range, or that is none of the choices (in upper or lower case), stops
the start with exit code 2 and a message that names the variable. Where a default of 0 means "by the
machine", the meaning says so. This page is made from src/config.ts by \`npm run generate\`; a test
fails when it is out of date.
`;

/** Every setting by what it is about, in the order in which a reader will want them. */
export const GROUPS: Readonly<Record<string, readonly (keyof Config)[]>> = {
  Network: ['HOST', 'PORT', 'FRONTS', 'INTERNAL_PORT', 'GRPC_PORT'],
  'Model and engine': [
    'MODEL_DIR',
    'MODEL_POLL_SECONDS',
    'EXECUTION_PROVIDER',
    'ENGINE_WORKERS',
    'INTRA_OP_THREADS',
    'MAX_BATCH',
    'MAX_DECODES',
    'ENGINE_HANG_MS',
    'LATENCY_CACHE',
  ],
  'Budgets and answers': ['DEFAULT_BUDGET_MS', 'SECOND_LOOKS'],
  Limits: [
    'MAX_BODY_BYTES',
    'MAX_BYTES_IN_FLIGHT',
    'MAX_IMAGE_PIXELS',
    'MAX_IMAGES_PER_REQUEST',
    'MAX_CONNECTIONS',
    'HEAD_TIMEOUT_MS',
    'REQUEST_TIMEOUT_MS',
    'DRAIN_TIMEOUT_MS',
  ],
  Security: ['TOKENS_FILE', 'CORS_ORIGINS'],
  Observability: [
    'SHADOW_CHECKS_PER_MINUTE',
    'FEEDBACK_CAPACITY',
    'GPU_SAMPLE_SECONDS',
    'OTEL_EXPORTER_OTLP_ENDPOINT',
  ],
  Logging: ['LOG_LEVEL', 'LOG_FORMAT'],
};

/** docs/settings.md. */
export function settingsPage(settings: readonly Setting[]): string {
  const groups = Object.entries(GROUPS).map(([heading, names]) => {
    const rows = names.map((name) => row(settings.find((setting) => setting.name === name)!));
    return `
## ${heading}

| variable | flag | default | range or choices | meaning |
|---|---|---|---|---|
${rows.join('\n')}
`;
  });
  return [HEAD, ...groups].join('');
}

function row(setting: Setting): string {
  const { name, flag, description } = setting;
  const cells = [`\`${name}\``, `\`--${flag}\``, defaultOf(setting), rangeOf(setting)];
  return `| ${[...cells, cell(description)].join(' | ')} |`;
}

function defaultOf({ name, default: fallback }: Setting): string {
  // As seen from the repository, wherever the page is made.
  const shown = name === 'MODEL_DIR' ? relative(REPOSITORY, resolve(String(fallback))) : fallback;
  return shown === '' ? 'empty' : `\`${shown}\``;
}

function rangeOf({ enum: choices, minimum, exclusiveMinimum, maximum }: Setting): string {
  if (choices) return choices.map((choice) => `\`${choice}\``).join(', ');
  if (maximum === undefined) return '';
  return exclusiveMinimum === undefined
    ? `${minimum} to ${maximum}`
    : `above ${exclusiveMinimum}, up to ${maximum}`;
}
