/** Text as a cell of a Markdown table: with its own bars, and with `<token>` not taken for HTML. */
export const cell = (text: string): string => text.replaceAll(/[|<]/g, String.raw`\$&`);
