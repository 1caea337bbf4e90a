import { expect, it } from 'vitest';

import { parseItemList } from '../../src/cli/session/item-list.ts';

// Answers of dpdk-testpmd 22.11 to "set txpkts" and "set portlist".
it.each([
  ['64', { items: [64] }],
  ['64,32,0', { items: [64, 32, 0] }],
  ['64,', { items: [64, 0] }],
  [',', { error: 'No valid value before comma' }],
  ['1,,2', { error: 'No valid value before comma' }],
  ['abc', { error: 'character a is not a decimal digit' }],
  ['0,x', { error: 'character x is not a decimal digit' }],
  ['1-2', { error: 'character - is not a decimal digit' }],
  ['0,0', { error: 'duplicated port 0 at index 0 and 1' }],
  ['1,2,3,4,5', { error: 'Number of port = 5 > 4 (maximum items)' }],
])('%s', (text, expected) => {
  expect(parseItemList(text, { item: 'port', max: 4, unique: true })).toEqual(expected);
});
