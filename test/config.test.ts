import { describe, expect, it } from 'vitest';
import { ConfigError, SETTINGS, readConfig } from '../src/config.ts';

describe('settings', () => {
  it.each([
    ['LOG_LEVEL', 'INFO', 'info'],
    ['LOG_LEVEL', 'Warn', 'warn'],
    ['EXECUTION_PROVIDER', 'CPU', 'cpu'],
  ] as const)('%s=%s is taken', (name, text, value) => {
    expect(readConfig({ [name]: text })[name]).toBe(value);
  });

  const enumerations = [
    ['LOG_LEVEL', '--log-level', ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']],
    ['LOG_FORMAT', '--log-format', ['auto', 'json', 'text']],
    ['EXECUTION_PROVIDER', '--execution-provider', ['auto', 'cuda', 'cpu']],
    ['SECOND_LOOKS', '--second-looks', ['on', 'off']],
  ] as const;

  it.each(enumerations)('%s: each value is taken in upper case, too', (name, _flag, values) => {
    for (const value of values) {
      expect(readConfig({ [name]: value.toUpperCase() })[name]).toBe(value);
    }
  });

  it.each(enumerations)('%s=verbose is refused, the values named once', (name, flag, values) => {
    expect(() => readConfig({ [name]: 'verbose' })).toThrow(
      new ConfigError(`${name} (${flag}) must be one of ${values.join(', ')}`),
    );
  });

  it('names every setting that is wrong', () => {
    expect(() => readConfig({ PORT: '-1', MAX_BATCH: 'many' })).toThrow(/PORT .*MAX_BATCH /);
  });

  const numbers = SETTINGS.filter((setting) => typeof setting.default === 'number');
  it.each(numbers)('$name=1e400 is refused: it is not finite', ({ name }) => {
    expect(() => readConfig({ [name]: '1e400' })).toThrow(`${name} `);
    expect(() => readConfig({ [name]: '-Infinity' })).toThrow(`${name} `);
  });

  it('a text may be Infinity', () => {
    expect(readConfig({ MODEL_DIR: 'Infinity' }).MODEL_DIR).toBe('Infinity');
  });
});
