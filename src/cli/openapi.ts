import pino from 'pino';
import { readConfig } from '../config.ts';
import { buildApp } from '../http/app.ts';
import { openModel } from '../model/manifest.ts';
import { Service } from '../service.ts';
import { packageVersion } from './command.ts';

/** `depthserve openapi`: the document that a running server shows at /openapi.json. */
export async function openapi(): Promise<void> {
  const config = readConfig();
  const model = await openModel(config.MODEL_DIR);
  const log = pino({ level: 'silent' });
  const app = await buildApp(
    new Service(config, model, log, () => {}),
    log,
    await packageVersion(),
  );
  await app.ready();
  process.stdout.write(`${JSON.stringify(app.swagger(), null, 2)}\n`);
  await app.close();
  await model.close();
}
