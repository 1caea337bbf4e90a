/**
 * How ports spread what they receive over their queues (RSS).
 * @module
 */
import { RSS_TYPE_NAMES } from '../../port/rss.ts';
import type { Command } from './grammar.ts';
import { choice, command, number, port, text, uint16, word } from './grammar.ts';

/** Kinds that have a name, and no command that gives them a key. */
const withoutKey = /^(port|vxlan|geneve|nvgre|eth|ipv4-chksum|l4-chksum|l3-pre\d+)$/;

const keyTypes = RSS_TYPE_NAMES.map(([name]) => name).filter((name) => !withoutKey.test(name));

export const rssCommands: readonly Command[] = [
  command('display', [word('show'), word('port'), port, word('rss-hash')], 'Flow types that a port hashes.', ({ rss }, values) => {
    rss.showHash(values.port, false);
  }),
  command('display', [word('show'), word('port'), port, word('rss-hash'), word('key')], 'The same, and the key.', ({ rss }, values) => {
    rss.showHash(values.port, true);
  }),
  command(
    'display',
    [word('show'), word('port'), port, word('rss'), word('reta'), number('size', uint16), text('masks', '(mask0)[,(mask1)...]')],
    'Entries of the table by which packets are spread.',
    ({ rss }, values) => {
      rss.showTable(values.port, values.size, values.masks);
    },
  ),
  command(
    'ports',
    [word('port'), word('config'), word('all'), word('rss'), text('types', '(all|default|none|ip|udp|tcp|sctp|type_name|type_id)')],
    'Flow types that every port hashes, as far as it can.',
    ({ rss }, values) => rss.configureAll(values.types),
  ),
  command(
    'ports',
    [word('port'), word('config'), port, word('rss-hash-key'), choice('type', keyTypes), text('key', '(hex_digits)')],
    'A flow type and the key that it is hashed with.',
    ({ rss }, values) => rss.setKey(values.port, values.type, values.key),
  ),
  command(
    'ports',
    [word('port'), word('config'), port, word('rss'), word('reta'), text('entries', '(hash,queue)[,(hash,queue)...]')],
    'Which queues entries of the table choose.',
    ({ rss }, values) => rss.setTable(values.port, values.entries),
  ),
];
