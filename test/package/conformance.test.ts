/** docs/conformance.md names tests that exist. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const TEXT = readFileSync(new URL('../../docs/conformance.md', import.meta.url), 'utf8');
/** `ring/split-driver` “name of a test”: the file below test/, without .test.ts. */
const CITATION = /`([\w/-]+)` “([^”]+)”/g;

const rows = TEXT.split('\n').filter((line) => /^\| [\d.]+ /.test(line));
const citations = [...new Map([...TEXT.matchAll(CITATION)].map(([whole, file = '', name = '']) => [whole, { file, name }])).values()];

function source(file: string): string {
  const path = new URL(`../${file}.test.ts`, import.meta.url);
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

describe('the table of the specification', () => {
  it('has a row for each statement, each with a test or with what is not done', () => {
    expect(rows.length).toBeGreaterThan(100);
    for (const row of rows) {
      const shown = row.split(' | ').at(-1) ?? '';
      expect(shown.match(CITATION) ?? /not done: |not ours: |by construction: /.exec(shown), row).not.toBeNull();
    }
  });

  it.each(citations)('$file: $name', ({ file, name }) => {
    const text = source(file);
    expect(text, `test/${file}.test.ts`).not.toBe('');
    const spellings = [`'${name}'`, `"${name}"`, `\`${name}\``, `'${name.replaceAll("'", "\\'")}'`];
    expect(spellings.some((spelling) => text.includes(spelling))).toBe(true);
  });
});
