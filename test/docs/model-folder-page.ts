import { cell } from './table.ts';

/** As much of a JSON Schema as models/model.schema.json uses. */
export interface Schema {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly additionalProperties?: unknown;
  readonly $ref?: string;
  readonly definitions?: Readonly<Record<string, Schema>>;
}

const HEAD = `# The model folder

What the server needs to serve a network, no matter which tool exported it: a folder (\`MODEL_DIR\`) with one ONNX file and
\`model.json\`, the manifest. \`adaptive-depth export\` writes both. For a file of your own, write the manifest by
hand; \`depthserve profile --model-dir FOLDER\` loads it, runs every sub-network, and prints their times, or says
in one line what is wrong.

## The ONNX file

| | name | type | shape |
|---|---|---|---|
| input | \`input.name\` of the manifest | uint8 | [N, height, width, 3], RGB, 0 to 255; normalisation is part of the graph |
| inputs | each of \`flags\`, in any order | bool | scalar; true skips the second half of a stage |
| output | \`logits\` | float32 | [N, number of labels] |

N is dynamic: batches have 1 to \`MAX_BATCH\` images. A flag holds for the whole batch. The logits must be finite
for every combination of flags. What a flag skips should cost no time, for example as the branch of an \`If\`.

## The manifest

This table is made from [models/model.schema.json](../models/model.schema.json) by \`npm run generate\`. The
server and the toolkit validate with that schema; the server also compares \`sha256\`, the flags with the
sub-networks, and both with the graph's inputs.

| field | required | meaning |
|---|---|---|
`;

const TAIL = `
Accuracies (\`top1\`) decide which sub-networks are chosen: those on the Pareto front of accuracy against measured
time. Where all are null, multiply-accumulates stand for them; where only some are (at least two are known), the others are not served.
Without \`confidence\` there are no second looks, and confidences are those of the softmax.
`;

/** docs/model-folder.md. */
export function modelFolderPage(schema: Schema): string {
  return HEAD + rowsOf(schema, schema.definitions ?? {}).join('') + TAIL;
}

function rowsOf(
  schema: Schema,
  definitions: NonNullable<Schema['definitions']>,
  path = '',
): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const resolved = resolve(property, definitions);
    const items = resolved.items && resolve(resolved.items, definitions);
    const field = path + name;
    const isRequired = schema.required?.includes(name) ? 'yes' : '';
    return [
      `| \`${field}\` | ${isRequired} | ${cell(resolved.description ?? '')} |\n`,
      ...rowsOf(resolved, definitions, `${field}.`),
      ...(items ? rowsOf(items, definitions, `${field}[].`) : []),
    ];
  });
}

function resolve(schema: Schema, definitions: NonNullable<Schema['definitions']>): Schema {
  const name = schema.$ref?.split('/').at(-1);
  return name === undefined ? schema : { ...definitions[name], ...schema };
}
