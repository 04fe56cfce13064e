import { describe, expect, it } from 'vitest';
import { ConfigError, readConfig } from '../src/config.ts';

describe('settings', () => {
  it.each([
    ['LOG_LEVEL', 'INFO', 'info'],
    ['LOG_LEVEL', 'Warn', 'warn'],
    ['EXECUTION_PROVIDER', 'CPU', 'cpu'],
  ] as const)('%s=%s is taken', (name, text, value) => {
    expect(readConfig({ [name]: text })[name]).toBe(value);
  });

  it.each([
    [
      'LOG_LEVEL',
      'LOG_LEVEL (--log-level) must be one of fatal, error, warn, info, debug, trace, silent',
    ],
    [
      'EXECUTION_PROVIDER',
      'EXECUTION_PROVIDER (--execution-provider) must be one of auto, cuda, cpu',
    ],
  ])('%s=verbose is refused, and the values are named once', (name, message) => {
    expect(() => readConfig({ [name]: 'verbose' })).toThrow(new ConfigError(message));
  });

  it('names every setting that is wrong', () => {
    expect(() => readConfig({ PORT: '-1', MAX_BATCH: 'many' })).toThrow(/PORT .*MAX_BATCH /);
  });
});
