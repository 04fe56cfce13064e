/** JSON as files and bodies have it: some editors and frameworks begin UTF-8 with a byte order mark. */
export const parseJson = (text: string): unknown => JSON.parse(text.replace(/^\uFEFF/, ''));
