import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';

/** Runs `script` with `log` open in a process of its own. @returns its standard output's writes. */
function run(script: string) {
  const program = `
    import { createRequire, syncBuiltinESMExports } from 'node:module';
    const fs = createRequire(import.meta.url)('node:fs');
    const { writeSync } = fs;
    let writes = 0;
    fs.writeSync = (...call) => { writes++; return writeSync(...call); };
    syncBuiltinESMExports();
    const { openLog } = await import('./dist/log.js');
    const log = openLog('info', (lines) => writeSync(2, 'lost ' + lines));
    const wrote = () => writeSync(2, 'wrote ' + writes + '. ');
    ${script}`;
  const { stdout: out, stderr } = spawnSync('node', ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
  });
  const messages = out.split('\n').filter((line) => line !== '');
  return {
    told: stderr,
    messages: messages.map((line) => (JSON.parse(line) as { msg: string }).msg),
  };
}

describe('the log', () => {
  test('writes lines that come together at once, soon', () => {
    const { told, messages } = run(`
      for (let i = 0; i < 100; i++) log.info('line ' + i);
      wrote();
      setTimeout(wrote, 100);`);
    expect(messages).toEqual(Array.from({ length: 100 }, (_, i) => `line ${i}`));
    expect(told).toBe('wrote 0. wrote 1. ');
  });

  test('does not keep a warning back, nor what came before it', () => {
    const { told, messages } = run(`log.info('a'); log.warn('b'); wrote(); log.info('c');`);
    expect(told).toBe('wrote 1. ');
    expect(messages).toEqual(['a', 'b', 'c']);
  });

  test('loses nothing when the process exits or fails', () => {
    expect(run(`log.info('last'); process.exit(3);`).messages).toEqual(['last']);
    expect(run(`log.info('last'); throw new Error('x');`).messages).toEqual(['last']);
  });
});
