import { readFile } from 'node:fs/promises';
import pino from 'pino';
import { readConfig } from '../config.ts';
import { buildApp } from '../http/app.ts';
import { openModel } from '../model/manifest.ts';
import { Service } from '../service.ts';
import { EXIT } from './command.ts';
import type { Command } from './command.ts';

/** `depthserve openapi`: the document that a running server shows at /docs/json. */
export const command: Command = {
  help: 'Usage: depthserve openapi > openapi.json\n',
  async run() {
    const { version } = JSON.parse(
      await readFile(new URL('../../package.json', import.meta.url), 'utf8'),
    ) as { version: string };
    const config = readConfig();
    const model = await openModel(config.MODEL_DIR);
    const log = pino({ level: 'silent' });
    const app = await buildApp(new Service(config, model, log, () => {}), log, version);
    await app.ready();
    process.stdout.write(`${JSON.stringify(app.swagger(), null, 2)}\n`);
    await app.close();
    await model.close();
    return EXIT.done;
  },
};
